// A preload for Node, `node --import ./loopback.mjs`: a server that names a port and no host listens on 127.0.0.1, where
// Node would listen on every interface. It is here for server-everything, which cannot be told a host.

import { Server } from "node:net";

const HOST = "127.0.0.1";
const { listen } = Server.prototype;

/** `listen(port)`, `listen(port, callback)`, `listen(port, backlog)`; a text that is no number is the path of a socket. */
const isPort = (value) => typeof value === "number" || (typeof value === "string" && /^\d+$/.test(value));

Server.prototype.listen = function (first, ...rest) {
  if (isPort(first) && typeof rest[0] !== "string") {
    return listen.call(this, first, HOST, ...rest);
  }
  if (isPort(first?.port) && !first.host) {
    return listen.call(this, { ...first, host: HOST }, ...rest);
  }
  return listen.call(this, first, ...rest);
};
