// Everything that a page may do with its session. `visit()` tells what of it the site took for the request of its user.
async function whose(path, options) {
    const answer = await fetch(path, options);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return (await answer.json()).user;
}

const framed = new Promise(done => addEventListener('message', message => message.data.frame && done(message.data.frame)));

function loaded(element, event, source) {
    return new Promise((done, failed) => {
        element.addEventListener(event, () => done(element));
        element.addEventListener('error', () => failed(new Error(`${source} did not load`)));
        element.src = source;
        document.body.append(element);
    });
}

const parts = {
    async picture() {
        await loaded(new Image(), 'load', `/picture?fresh=${Math.random()}`);
        return whose('/me?by=picture');
    },
    // The length of a film is asked for with Range, and so is its end.
    async film() {
        const film = await loaded(document.createElement('video'), 'loadedmetadata', '/film.wav');
        const moved = new Promise(done => film.addEventListener('seeked', done));
        film.currentTime = film.duration - 1;
        await moved;
        return whose('/me?by=film');
    },
    frame: () => framed,
    async polling() {
        const users = new Set();
        for (let round = 0; round < 5; round++) users.add(await whose('/slow?ms=20'));
        return [...users].join();
    },
    posting: () => whose('/me?by=post', { method: 'POST', body: new URLSearchParams({ a: 'b' }) }),
    async beacon() {
        if (!navigator.sendBeacon('/beacon', 'seen')) throw new Error('not sent');
        return whose('/me?by=beacon');
    },
    worker() {
        const worker = new Worker('/worker.js');
        return new Promise((done, failed) => {
            worker.onmessage = message => done([...new Set(message.data.split(','))].join());
            worker.onerror = error => failed(new Error(error.message));
        });
    },
    async service() {
        await navigator.serviceWorker.register('/service.js');
        await navigator.serviceWorker.ready;
        if (!navigator.serviceWorker.controller) {
            await new Promise(done => navigator.serviceWorker.addEventListener('controllerchange', done));
        }
        return whose('/by-service');
    },
    socket() {
        const socket = new WebSocket(`wss://${location.host}/socket`);
        return new Promise((done, failed) => {
            socket.onopen = () => socket.send('whose');
            socket.onmessage = message => done(message.data);
            socket.onerror = () => failed(new Error('the socket failed'));
        });
    },
    events() {
        const events = new EventSource('/events');
        return new Promise(done => { events.onmessage = message => { events.close(); done(message.data); }; });
    },
    async download() {
        const link = document.createElement('a');
        link.href = '/download';
        link.download = 'notes.bin';
        document.body.append(link);
        link.click();
        return whose('/me?by=download');
    },
    async module() {
        const module = await import('/module.js');
        return module.user;
    },
};

// Asks for another language than the browser does, as pages that translate themselves do.
function translated() {
    return whose('/me?by=translation', { headers: { 'Accept-Language': 'it' } });
}

async function visit() {
    const told = {};
    await Promise.all(Object.entries(parts).map(async ([name, part]) => {
        const late = new Promise((_, failed) => setTimeout(() => failed(new Error('it never came')), 20000));
        told[name] = await Promise.race([part(), late]).catch(error => String(error));
    }));
    return told;
}

// What a busy page does for some time. `queue` requests are waited for at once, however few the browser sends; each takes
// up to `ms`. Besides there are polls, bursts, frames, and pages in another tab.
async function busy({ seconds, queue, ms, polls }) {
    const told = { asked: 0, pages: 0, failed: 0, strangers: 0, why: null };
    const end = performance.now() + seconds * 1000;
    const over = () => performance.now() > end;
    let dice = 1;
    const throwDice = () => (dice = dice * 48271 % 2147483647);
    const ask = async path => {
        told.asked++;
        try {
            if (await whose(path) !== 'alice') told.strangers++;
        } catch (error) {
            told.failed++;
            told.why = String(error);
        }
    };
    const pause = ms => new Promise(done => setTimeout(done, ms));
    const waiting = async () => { while (!over()) await ask(`/slow?ms=${throwDice() % ms}`); };
    const polling = async () => { while (!over()) { await ask('/me?by=poll'); await pause(250); } };
    const bursts = async () => {
        while (!over()) {
            await Promise.all(Array.from({ length: 20 }, () => ask(`/slow?ms=${throwDice() % ms}`)));
            await pause(700);
        }
    };
    const frames = async () => {
        const frame = document.createElement('iframe');
        document.body.append(frame);
        while (!over()) { frame.src = `/frame?${throwDice()}`; await pause(900); }
    };
    const pages = async () => {
        const tab = open('about:blank');
        while (!over()) {
            const page = `?${throwDice()}`;
            tab.location = `/frame${page}`;
            while (tab.location.search !== page && !over()) await pause(20);
            told.pages++;
            await pause(500);
        }
        tab.close();
    };
    const all = Array.from({ length: queue }, waiting);
    if (polls) all.push(polling(), bursts(), frames(), pages());
    await Promise.all(all);
    return told;
}
