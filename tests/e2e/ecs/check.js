// Checks events in Elastic Common Schema (standard input, one a line) against the list of fields that Elastic publishes as
// `@elastic/ecs`: each field is one of the list, has its type, is a list where it is to be one, and has only values that are allowed
// there. What stands under `portcullis` is ours. Tells how many events and fields were right, and the version of the list; exits with 1 at
// the first event that is not right, and with 2 if there was none.
"use strict";

const { EcsFlat, EcsVersion } = require("@elastic/ecs");
const net = require("node:net");

const FITS = {
    keyword: (value) => typeof value === "string",
    wildcard: (value) => typeof value === "string",
    match_only_text: (value) => typeof value === "string",
    constant_keyword: (value) => typeof value === "string",
    ip: (value) => typeof value === "string" && net.isIP(value) !== 0,
    long: (value) => Number.isSafeInteger(value),
    float: (value) => typeof value === "number" && Number.isFinite(value),
    date: (value) => typeof value === "string" && /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/.test(value),
    boolean: (value) => typeof value === "boolean",
};

// The leaves of an object, by their whole names.
function leaves(name, value, found) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
        for (const [key, member] of Object.entries(value)) {
            if (name !== "" || key !== "portcullis") {
                leaves(name === "" ? key : `${name}.${key}`, member, found);
            }
        }
    } else {
        found.push([name, value]);
    }
    return found;
}

function faultOf(name, value) {
    const field = EcsFlat[name];
    if (field === undefined) {
        return "is no field";
    }
    const isList = (field.normalize ?? []).includes("array");
    if (Array.isArray(value) !== isList) {
        return isList ? "is to be a list" : "is no list";
    }
    const fits = FITS[field.type];
    const values = isList ? value : [value];
    const allowed = (field.allowed_values ?? []).map((allowed) => allowed.name);
    for (const one of values) {
        if (fits === undefined || !fits(one)) {
            return `is a ${field.type}, and no ${JSON.stringify(one)}`;
        }
        if (allowed.length > 0 && !allowed.includes(one)) {
            return `can not be ${one}`;
        }
    }
    return values.length > 0 ? null : "is empty";
}

// Which types go with which categories of events.
function typesFault(event) {
    const allowed = EcsFlat["event.category"].allowed_values;
    const expected = (event.category ?? []).flatMap((name) => allowed.find((one) => one.name === name).expected_event_types);
    return (event.type ?? []).find((type) => !expected.includes(type));
}

const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
let fields = 0;
for (const [at, line] of lines.entries()) {
    const event = JSON.parse(line);
    const found = leaves("", event, []);
    const fail = (why) => {
        console.error(`line ${at + 1}: ${why}`);
        process.exit(1);
    };
    for (const [name, value] of found) {
        const fault = faultOf(name, value);
        if (fault !== null) {
            fail(`${name} ${fault}`);
        }
    }
    for (const name of ["@timestamp", "ecs.version"]) {
        if (!found.some(([there]) => there === name)) {
            fail(`${name} is missing`);
        }
    }
    const odd = typesFault(event.event);
    if (odd !== undefined) {
        fail(`event.type ${odd} does not go with ${event.event.category}`);
    }
    fields += found.length;
}
console.log(`${lines.length} events, ${fields} fields, ECS ${EcsVersion}`);
process.exit(lines.length > 0 ? 0 : 2);
