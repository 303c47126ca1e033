// A service worker that all requests of the site go through once it is there; one it asks for itself.
importScripts('/part.js');
self.addEventListener('install', event => event.waitUntil(self.skipWaiting()));
self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', event => {
    if (new URL(event.request.url).pathname === '/by-service') {
        event.respondWith(whose('/me?by=service').then(user => Response.json({ user })));
    } else {
        event.respondWith(fetch(event.request));
    }
});
