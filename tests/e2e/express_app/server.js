// A small Express shop in the way most tutorials write one: `node server.js [127.0.0.1:PORT | unix:PATH]`.
//
// Nothing here knows of Portcullis. Two weaknesses are left in because real apps have them: the login keeps the session
// id it finds (fixation), and express-session's late save brings a destroyed session back to life.
//
// Needs APP_SECRET_KEY, APP_ALICE_PASSWORD and APP_BOB_PASSWORD. Port 0 is any free port; the one taken is printed as
// `listening on 127.0.0.1:PORT`. Ends when standard input does, so that no test that dies leaves a server behind.
"use strict";

const crypto = require("node:crypto");
const http = require("node:http");
const express = require("express");
const session = require("express-session");
const { WebSocketServer } = require("ws");

const users = new Map([
  ["alice", process.env.APP_ALICE_PASSWORD],
  ["bob", process.env.APP_BOB_PASSWORD],
]);

const app = express();
const sessions = session({ secret: process.env.APP_SECRET_KEY, resave: false, saveUninitialized: false });
app.use(sessions);
const signedIn = (req, res, next) => (req.session.user ? next() : res.redirect("/login"));

// Before the body parsers: they would eat an upload whose type they know.
app.get("/upload", signedIn, (req, res) => {
  res.type("html").send('<!doctype html><form method="post" enctype="multipart/form-data"><input type="file" name="file"></form>');
});
app.post("/upload", signedIn, (req, res) => {
  const digest = crypto.createHash("sha256");
  let size = 0;
  req.on("data", (chunk) => {
    size += chunk.length;
    digest.update(chunk);
  });
  req.on("end", () => res.json({ size, sha256: digest.digest("hex") }));
});

app.use(express.urlencoded({ extended: false }));
app.use(express.json());

app.get("/", (req, res) => {
  res.type("html").send(`<!doctype html><title>Shop</title><p id="user">${req.session.user ?? "nobody"}</p>`);
});

app.get("/me", (req, res) => {
  const headers = Object.entries(req.headers).filter(([name]) => name.startsWith("portcullis-"));
  const cookies = (req.headers.cookie ?? "").split(";").map((pair) => pair.split("=")[0].trim()).filter(Boolean);
  res.json({
    user: req.session.user ?? null,
    cart: req.session.cart ?? [],
    session: Object.keys(req.session).filter((key) => key !== "cookie").sort(),
    cookies: cookies.sort(),
    guard: Object.fromEntries(headers),
  });
});

app.get("/login", (req, res) => {
  res.type("html").send('<!doctype html><form method="post"><input name="username"><input name="password" type="password"></form>');
});

app.post("/login", (req, res) => {
  const { username, password } = req.body ?? {};
  if (!password || users.get(username) !== password) return res.status(401).type("html").send("<p>Wrong name or password</p>");
  req.session.user = username; // no regenerate(): the fixation that this app has
  res.redirect("/");
});

app.post("/logout", (req, res) => {
  req.session.destroy(() => res.clearCookie("connect.sid").redirect("/"));
});

app.get("/cart", (req, res) => res.type("html").send('<!doctype html><form method="post"><input name="item"></form>'));
app.post("/cart", (req, res) => {
  req.session.cart = [...(req.session.cart ?? []), String(req.body?.item)];
  res.redirect("/me");
});

// A slow request waits at a gate until the test has seen it arrive and lets it go on: no test needs to sleep.
const gates = new Map();
function gate(name) {
  if (!gates.has(name)) {
    const made = {};
    made.arrived = new Promise((resolve) => (made.arrive = resolve));
    made.opened = new Promise((resolve) => (made.open = resolve));
    gates.set(name, made);
  }
  return gates.get(name);
}

app.get("/slow", async (req, res) => {
  const here = gate(req.query.gate);
  here.arrive();
  await here.opened;
  req.session.slow = (req.session.slow ?? 0) + 1; // saved late, from what was read before the wait
  res.json({ user: req.session.user ?? null });
});
app.get("/gate/arrived", async (req, res) => {
  await gate(req.query.gate).arrived;
  res.json({ arrived: true });
});
app.get("/gate/open", (req, res) => {
  gate(req.query.gate).open();
  res.json({ open: true });
});

// Server-sent events: one at once, one more for each POST /say, until the client goes.
const listeners = new Set();
app.get("/events", signedIn, (req, res) => {
  res.set({ "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  res.flushHeaders();
  res.write(`data: hello ${req.session.user}\n\n`);
  listeners.add(res);
  req.on("close", () => listeners.delete(res));
});
app.post("/say", (req, res) => {
  const text = String(req.body?.text);
  for (const listener of listeners) listener.write(`data: ${text}\n\n`);
  res.json({ listeners: listeners.size });
});

// WebSocket /socket: members only; says hello, then echoes.
const server = http.createServer(app);
const sockets = new WebSocketServer({ noServer: true });
server.on("upgrade", (req, socket, head) => {
  sessions(req, {}, () => {
    if (req.url !== "/socket" || !req.session?.user) {
      return socket.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
    sockets.handleUpgrade(req, socket, head, (ws) => {
      ws.send(`hello ${req.session.user}`);
      ws.on("message", (text) => ws.send(String(text)));
    });
  });
});

const where = process.argv[2] ?? "127.0.0.1:0";
if (where.startsWith("unix:")) {
  server.listen(where.slice("unix:".length), () => console.log(`listening on ${where}`));
} else {
  const [host, port] = where.split(":");
  server.listen(Number(port), host, () => console.log(`listening on 127.0.0.1:${server.address().port}`));
}
if (!process.stdin.isTTY) process.stdin.resume().on("end", () => process.exit(0));
