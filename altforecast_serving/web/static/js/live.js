// One WebSocket that comes back by itself.
// What belongs here: connecting, waiting, noticing silence. What does not: what the messages mean.

const FIRST_MS = 1000;
const LONGEST_MS = 15000;
const SILENT_MS = 12000; // the server says something every 5 s

export function follow(path, { onMessage, onState }) {
  let wait = FIRST_MS;
  let lastId = "";
  let socket = null;
  let heard = 0;

  function open() {
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    const address = `${scheme}://${window.location.host}${path}${lastId ? `?last_id=${encodeURIComponent(lastId)}` : ""}`;
    socket = new WebSocket(address);
    heard = Date.now();
    socket.onmessage = ({ data }) => {
      heard = Date.now();
      wait = FIRST_MS;
      const message = JSON.parse(data);
      if (message.last_id) lastId = message.last_id;
      onMessage(message);
    };
    socket.onclose = ({ code, reason }) => {
      if (code === 1008) lastId = "";
      onState("lost", reason);
      setTimeout(open, wait * (0.5 + Math.random() / 2));
      wait = Math.min(wait * 2, LONGEST_MS);
    };
  }

  setInterval(() => { if (socket?.readyState === WebSocket.OPEN && Date.now() - heard > SILENT_MS) socket.close(4000, "silent"); }, 1000);
  open();
}
