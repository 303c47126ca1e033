// A worker that asks for whom the site takes it, by itself and through a worker of its own.
importScripts('/part.js');
const asked = whose('/me?by=worker');
if (self.name === 'inner') {
    asked.then(user => postMessage(user));
} else {
    const inner = new Worker('/worker.js', { name: 'inner' });
    inner.onmessage = async message => postMessage([await asked, message.data].join());
}
