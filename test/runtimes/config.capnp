using Workerd = import "/workerd/workerd.capnp";

# The names are those that the bundler writes. Port 0: a free one, which workerd tells through --control-fd.
const config :Workerd.Config = (
  services = [(name = "main", worker = .worker)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  compatibilityDate = "2026-01-01",
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "base.wasm", wasm = embed "base.wasm"),
  ],
);
