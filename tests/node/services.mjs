// A notebook page without a browser: one life of a kernel, through the real @jupyterlab/services.
//
//   JUPYTER_URL=… JUPYTER_TOKEN=… node services.mjs KERNELSPEC NOTEBOOK RECONNECT FLAG CELL
//
// RECONNECT is `wait` (as long as the client itself sees fit) or `press` (Reconnect to Kernel).
// A cell that ends when the file FLAG is there runs while the server is killed. After the line
// {"step":"outage"} on standard output these lines are waited for on standard input: `coming`
// (another server is about to start), `back` (it answers), `end` (the kernel has been looked at).
// CELL is `over` if the flag comes before the next server does; `busy` if this script sets it, once
// it has connected to the busy kernel.
//
// Each step prints a line of JSON: its name, its duration in seconds `s`, and what it has seen.
// The first that fails prints {"failed": step, "why": …} and ends with exit code 1.

import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import services from '@jupyterlab/services';
import WebSocket from 'ws';

const { KernelManager, KernelSpecManager, ServerConnection, SessionAPI, SessionManager } = services;
const [kernelName, path, reconnect, flag, during] = process.argv.slice(2);

const QUICK_S = 20; // for what takes a moment; a crash is noticed every three seconds
const START_S = 60;
const RECONNECT_S = 60; // the client asks a server that is gone again after 10 to 30 s
const CONNECT_S = 2; // to a kernel that is busy

// A restart cancels requests of the library's own, which nobody awaits: on a page that is a line on
// the console
process.on('unhandledRejection', error => {
  if (!String(error.message).startsWith('Canceled future for ')) {
    throw error;
  }
});

// The library says on the console what it does; standard output is for the steps
console.debug = console.info = console.log = () => {};

const settings = ServerConnection.makeSettings({
  baseUrl: process.env.JUPYTER_URL + '/',
  token: process.env.JUPYTER_TOKEN,
  appendToken: true
});
const kernels = new KernelManager({ serverSettings: settings });
const kernelspecs = new KernelSpecManager({ serverSettings: settings });
const sessions = new SessionManager({ serverSettings: settings, kernelManager: kernels });
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const say = what => process.stdout.write(JSON.stringify(what) + '\n');

function check(holds, otherwise) {
  if (!holds) {
    throw new Error(otherwise);
  }
}

const sleep = s => new Promise(resolve => setTimeout(resolve, s * 1000));

async function within(s, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${s} s`)), s * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function until(s, what, condition) {
  const polling = async () => {
    while (!(await condition())) {
      await sleep(0.01);
    }
  };
  const began = performance.now();
  await within(s, what, polling());
  return seconds(began);
}

const seconds = began => Math.round(performance.now() - began) / 1000;

async function step(name, act) {
  const began = performance.now();
  try {
    const seen = await act();
    say({ step: name, s: seconds(began), ...seen });
  } catch (error) {
    say({ failed: name, s: seconds(began), why: String(error.stack ?? error) });
    process.exit(1);
  }
}

async function line(expected) {
  const { value } = await input.next();
  check(value === expected, `told ${value}, not ${expected}`);
}

/** A cell that has been sent: `text` grows as it prints, `done` is its reply's content. */
function cell(connection, code) {
  const future = connection.requestExecute({ code });
  const sent = { text: '', idle: false };
  future.onIOPub = message => {
    if (message.header.msg_type === 'stream') {
      sent.text += message.content.text;
    }
    sent.idle ||= message.content.execution_state === 'idle';
  };
  sent.done = future.done.then(reply => reply.content);
  sent.done.catch(() => {}); // a restart cancels it
  return sent;
}

/** Run a cell to its end. Returns what it printed. */
async function run(connection, code, s = QUICK_S) {
  const sent = cell(connection, code);
  const reply = await within(s, code, sent.done);
  check(reply.status === 'ok', `${code}: ${reply.ename} ${reply.evalue}`);
  return sent.text.trim();
}

/** A second client of the kernel, which knows nothing of @jupyterlab/services. */
class Raw {
  static async open(kernelId) {
    const url = `${settings.wsUrl}api/kernels/${kernelId}/channels?token=${settings.token}`;
    const raw = new Raw();
    raw.messages = [];
    raw.socket = new WebSocket(url);
    raw.socket.on('message', data => raw.messages.push(JSON.parse(data)));
    await new Promise((resolve, reject) => raw.socket.on('open', resolve).on('error', reject));
    return raw;
  }

  async run(code, s = QUICK_S) {
    const header = {
      msg_id: crypto.randomUUID(),
      msg_type: 'execute_request',
      session: 'raw',
      username: '',
      version: '5.3',
      date: new Date().toISOString()
    };
    const content = { code, silent: false, store_history: false };
    const message = { header, parent_header: {}, metadata: {}, content, channel: 'shell' };
    this.socket.send(JSON.stringify(message));
    const mine = kind => m => m.parent_header.msg_id === header.msg_id && m.msg_type === kind;
    const ended = () =>
      this.messages.some(mine('execute_reply')) &&
      this.messages.some(m => mine('status')(m) && m.content.execution_state === 'idle');
    await until(s, `the second client's ${code}`, ended);
    return this.messages.filter(mine('stream')).map(m => m.content.text).join('').trim();
  }

  statuses() {
    return this.messages.map(m => m.content.execution_state).filter(Boolean);
  }
}

const WHO = 'import os; print(os.getpid(), os.path.exists("/tmp/kept"))';
let session, kernel, pid;
const statuses = [];
const connections = [];

await step('start', async () => {
  await within(QUICK_S, 'kernelspecs', kernelspecs.ready);
  check(kernelName in kernelspecs.specs.kernelspecs, `no kernelspec ${kernelName}`);
  await within(QUICK_S, 'sessions', sessions.ready);
  const options = { path, name: path, type: 'notebook', kernel: { name: kernelName } };
  session = await within(START_S, 'session', sessions.startNew(options));
  kernel = session.kernel;
  kernel.statusChanged.connect((_, status) => statuses.push(status));
  kernel.connectionStatusChanged.connect((_, status) => connections.push(status));
  const info = await within(START_S, 'kernel_info', kernel.info);
  await until(START_S, 'idle', () => kernel.status === 'idle');
  check(info.implementation === 'ipython', `kernel_info: ${JSON.stringify(info)}`);
  return { kernel_id: kernel.id, session_id: session.id };
});

await step('execute', async () => {
  await run(kernel, 'open("/tmp/kept", "w").close(); gone = 1');
  const said = await run(kernel, WHO);
  pid = said.split(' ')[0];
  const completed = await kernel.requestComplete({ code: 'gon', cursor_pos: 3 });
  check(completed.content.matches.includes('gone'), 'no completion');
  return { pid };
});

await step('comm', async () => {
  let opened;
  kernel.registerCommTarget('page', (comm, message) => {
    opened = message.content.data;
  });
  await run(
    kernel,
    `
from comm import create_comm, get_comm_manager
def echo(comm, message):
    comm.on_msg(lambda m: comm.send({"echo": m["content"]["data"]}, buffers=m["buffers"]))
get_comm_manager().register_target("echo", echo)
create_comm(target_name="page", data={"said": "hello"})`
  );
  await until(QUICK_S, 'comm of the kernel', () => opened?.said === 'hello');
  const comm = kernel.createComm('echo');
  const echoed = new Promise(resolve => {
    comm.onMsg = resolve;
  });
  await within(QUICK_S, 'comm_open', comm.open().done);
  await within(QUICK_S, 'comm_msg', comm.send({ n: 7 }, undefined, [new Uint8Array([1, 2, 3])]).done);
  const back = await within(QUICK_S, 'comm echo', echoed);
  check(back.content.data.echo.n === 7, JSON.stringify(back.content));
  const bytes = back.buffers.map(b => [...new Uint8Array(b.buffer ?? b, b.byteOffset, b.byteLength)]);
  check(JSON.stringify(bytes) === '[[1,2,3]]', `buffers: ${JSON.stringify(bytes)}`);
  // The library deletes the comm's subshell in the same breath, and a kernel that reads this first
  // never gets to the comm_close: it is not waited for
  comm.close().done.catch(() => {});
  await run(kernel, 'pass');
});

await step('interrupt', async () => {
  const sent = cell(kernel, 'import time; print("begun", flush=True); time.sleep(300)');
  await until(QUICK_S, 'begun', () => sent.text.includes('begun'));
  check(kernel.status === 'busy', `status ${kernel.status}`);
  await within(QUICK_S, 'interrupt', kernel.interrupt());
  const reply = await within(QUICK_S, 'the interrupted cell', sent.done);
  check(reply.ename === 'KeyboardInterrupt', JSON.stringify(reply));
  check((await run(kernel, WHO)) === `${pid} True`, 'another process after an interrupt');
});

await step('restart', async () => {
  const raw = await within(QUICK_S, 'the second client', Raw.open(kernel.id));
  await raw.run('pass');
  await within(QUICK_S, 'restart', kernel.restart());
  const [now, kept] = (await run(kernel, WHO)).split(' ');
  check(now !== pid, 'the same process after a restart');
  check(kept === 'True', 'another container after a restart');
  pid = now;
  check((await run(kernel, 'print("gone" in globals())')) === 'False', 'variables outlived a restart');
  // The server's subscription for it takes up to a tenth of a second to find the new process: what
  // is printed before that, and the idle after it, nobody hears
  let said = '';
  for (let tries = 0; tries < 10 && said !== `${pid} True`; tries++) {
    said = await raw.run(WHO, 2).catch(() => '');
  }
  check(said === `${pid} True`, 'the second client lost the kernel');
  check(raw.socket.readyState === WebSocket.OPEN, 'the second client was cut off');
  raw.socket.close();
  return { pid };
});

await step('crash', async () => {
  statuses.length = 0;
  cell(kernel, 'import os; os.kill(os.getpid(), 9)');
  const noticed_s = await until(QUICK_S, 'autorestarting', () => statuses.includes('autorestarting'));
  // The first word of the new process may come before anybody listens, in any kernel: the server
  // does not wait for the subscription of one that was busy. So a page runs a cell and sees
  const [now, kept] = (await run(kernel, WHO)).split(' ');
  await until(QUICK_S, 'idle again', () => statuses.at(-1) === 'idle');
  check(now !== pid, 'the same process after a crash');
  check(kept === 'True', 'another container after a crash');
  pid = now;
  return { pid, noticed_s };
});

await run(kernel, 'x = 42');
const long = cell(
  kernel,
  `
import os, time
print("begun", flush=True)
while not os.path.exists("${flag}"):
    time.sleep(0.05)
y = x + 1
print("finished")
open("${flag}.done", "w").close()`
);
await until(QUICK_S, 'begun', () => long.text.includes('begun'));
connections.length = 0;
say({ step: 'outage' });

await step('gone', async () => {
  await until(QUICK_S, 'connection lost', () => connections.includes('connecting'));
  check(kernel.status === 'unknown', `status ${kernel.status}`);
});

await step('listed', async () => {
  await line('coming');
  // A page that asks before all others must neither make the server forget the notebook, nor be
  // told that its kernel is gone
  let models;
  const answered = async () => {
    models = await SessionAPI.listRunning(settings).catch(() => undefined);
    return models !== undefined;
  };
  await until(START_S, 'an answer', answered);
  const mine = models.find(model => model.path === path);
  check(mine, `no session of ${path}: ${JSON.stringify(models)}`);
  check(mine.kernel.id === kernel.id, `another kernel: ${mine.kernel.id}`);
  await sessions.refreshRunning();
  await kernels.refreshRunning();
  check(!kernel.isDisposed, 'the page was told that its kernel is dead');
  await line('back');
  return { session_id: mine.id };
});

if (during === 'busy') {
  await step('busy', async () => {
    const began = performance.now();
    const second = kernels.connectTo({ model: { id: kernel.id, name: kernel.name } });
    let text = '';
    second.iopubMessage.connect((_, message) => {
      text += message.content.text ?? '';
    });
    const connected = () => second.connectionStatus === 'connected';
    await until(CONNECT_S, 'connection to a busy kernel', connected);
    const connect_s = seconds(began);
    const asked = run(second, 'print(x)');
    await sleep(1); // the server does not wait until it hears a kernel that is busy
    writeFileSync(flag, '');
    await until(QUICK_S, 'its output', () => text.includes('finished'));
    check((await asked) === '42', 'x of the second connection');
    second.dispose();
    return { connect_s };
  });
}

await step('reconnect', async () => {
  if (reconnect === 'press' && kernel.connectionStatus !== 'connected') {
    await within(RECONNECT_S, 'reconnect', kernel.reconnect());
  }
  const connected = () => kernel.connectionStatus === 'connected';
  await until(RECONNECT_S, 'connected', connected);
  const said = await run(kernel, 'print(x, y)');
  check(said === '42 43', `x, y = ${said}`);
  check((await run(kernel, WHO)) === `${pid} True`, 'another process');
  await until(QUICK_S, 'idle', () => kernel.status === 'idle');
  await line('end');
  return { kernel_id: kernel.id, pid };
});

await step('restart again', async () => {
  await within(QUICK_S, 'restart', kernel.restart());
  const [now, kept] = (await run(kernel, WHO)).split(' ');
  check(now !== pid && kept === 'True', `after a restart: ${now}, ${kept}`);
  await run(kernel, 'x = 42');
});

await step('shut down', async () => {
  await within(QUICK_S, 'shutdown', session.shutdown());
  await kernels.refreshRunning();
  check(![...kernels.running()].some(model => model.id === kernel.id), 'still listed');
});
process.exit(0);
