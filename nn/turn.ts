// What runtimes have beyond the web's common API; none of it is imported.
interface Host {
  readonly scheduler?: { yield?(): Promise<void> };
  setImmediate?(callback: () => void): unknown;
}

/** Gives the event loop a turn, by the quickest way the runtime has: timers, messages and aborts get through. */
export function turn(): Promise<void> {
  const host = globalThis as Host;
  if (host.scheduler?.yield !== undefined) return host.scheduler.yield();
  return new Promise((resolve) => {
    if (host.setImmediate !== undefined) {
      host.setImmediate(resolve);
    } else if (typeof MessageChannel === 'function') {
      // Timers wait for a millisecond and more; messages don't.
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    } else {
      setTimeout(resolve, 0);
    }
  });
}
