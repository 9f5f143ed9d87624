// The connection to the server: pictures and news come in, it comes back by itself when it breaks.

export function connect(hear) {
  let socket = null;
  let wait = 250;
  const wanted = {};

  function open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/feed`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = 250;
      if (Object.keys(wanted).length) socket.send(JSON.stringify(wanted));
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") hear.news(JSON.parse(data));
      else hear.picture(...unpack(data));
    };
    socket.onclose = async ({ code, reason }) => {
      hear.lost(code === 1013 ? reason : "");
      setTimeout(open, wait * (0.8 + 0.4 * Math.random()));
      wait = Math.min(wait * 1.7, 4000);
      try {
        const answer = await fetch("/alive", { cache: "no-store" });
        if (answer.status === 401) location.reload();
      } catch { /* the server is not there: try again */ }
    };
  }

  open();
  return {
    ask(wish) {
      Object.assign(wanted, wish);
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wish));
    },
    drawn(number) {
      if (socket.readyState === WebSocket.OPEN) socket.send(`{"ack":${number}}`);
    },
  };
}

function unpack(data) {
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const start = 4 + length;
  const after = new Uint8Array(data, start, head.a);
  const before = data.byteLength > start + head.a ? new Uint8Array(data, start + head.a) : null;
  return [head, after, before];
}

// Tell the server a wish; what it refuses is shown, and null comes back.
export async function wish(name, body, complain) {
  try {
    const answer = await fetch(`/wish/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) return true;
    if (answer.status === 401) location.reload();
    const { error, hint } = await answer.json();
    complain(hint ? `${error}: ${hint}` : error);
  } catch {
    complain("the server does not answer");
  }
  return null;
}
