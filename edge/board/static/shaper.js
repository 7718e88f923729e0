/* A narrow network for one page: a service worker that lets bodies through at the rate that the request's address names after `#kbps=`.
   A fragment never leaves the browser, so the cache server sees an ordinary request; the player sees, measures and suffers a slow one. */

const SLICE_MS = 50;
let free = 0; // when the link is free again, ms: requests of one page share it

self.addEventListener("install", (event) => {
  // Reports go past this worker: a page that goes away could not hand its last ones over to it any more.
  event.addRoutes?.({ condition: { requestMethod: "POST" }, source: "network" });
  self.skipWaiting();
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const kbps = Number(new URL(event.request.url).hash.match(/^#kbps=(\d+)$/)?.[1]);
  if (kbps) event.respondWith(shaped(event.request, kbps));
});

async function shaped(request, kbps) {
  const answer = await fetch(request);
  if (!answer.body) return answer;
  const bytesPerMs = kbps / 8;
  const slice = Math.max(1, Math.round(bytesPerMs * SLICE_MS));
  const paced = new TransformStream({
    async transform(chunk, out) {
      for (let at = 0; at < chunk.length; at += slice) {
        const part = chunk.subarray(at, at + slice);
        const now = performance.now();
        free = Math.max(free, now) + part.length / bytesPerMs;
        await new Promise((resolve) => setTimeout(resolve, free - now));
        out.enqueue(part);
      }
    },
  });
  return new Response(answer.body.pipeThrough(paced), { status: answer.status, statusText: answer.statusText, headers: answer.headers });
}
