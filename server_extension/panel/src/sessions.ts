/** The sessions as all parts of the panel see them: one list, updated by one stream. */

import { ISignal, Signal } from '@lumino/signaling';

import type { Api } from './api';
import { hasKernel, IEngine, isLaunching, ISession } from './session';
import { Link, Stream } from './stream';

/** The list of sessions, the state of Docker and of the connection to the server. */
export class Sessions {
  constructor(readonly api: Api) {
    this.stream = new Stream(api);
    this.stream.linkChanged.connect((_, link) => {
      this._fresh &&= link === 'open';
      this._changed.emit();
    });
    this.stream.received.connect((_, { event, data }) => {
      if (event === 'sessions') {
        const message = data as { sessions: ISession[]; engine?: IEngine };
        this._list = message.sessions;
        this._engine = message.engine ?? { ok: true, message: '', hint: '' };
        this._receivedAt = Date.now();
        this._known = this._fresh = true;
        this._changed.emit();
      }
    });
    // Countdowns tick here, so that the server need not send them every second
    setInterval(() => {
      if (!document.hidden && this._list.some(session => session.state === 'running')) {
        this._ticked.emit();
      }
    }, 1000);
  }

  /** False until the server has sent the sessions for the first time. */
  get known(): boolean {
    return this._known;
  }

  /** Whether the server has sent the list since the last time that it was disconnected. */
  get fresh(): boolean {
    return this._fresh;
  }

  get list(): readonly ISession[] {
    return this._list;
  }

  get engine(): IEngine {
    return this._engine;
  }

  get link(): Link {
    return this.stream.link;
  }

  /** Seconds since the server sent the list; to be subtracted from deadlines. */
  get elapsedS(): number {
    return (Date.now() - this._receivedAt) / 1000;
  }

  /** Emitted when the sessions, the engine or the connection changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emitted every second while something counts down. */
  get ticked(): ISignal<this, void> {
    return this._ticked;
  }

  byId(id: string): ISession | undefined {
    return this._list.find(session => session.id === id);
  }

  ofKernel(kernelId: string): ISession | undefined {
    return this._list.find(session => hasKernel(session, kernelId));
  }

  /** Whether the server knows that kernel of a session: after a restart, once it has adopted it. */
  serves(kernelId: string): boolean {
    return this._list.some(({ kernel_list }) =>
      kernel_list.some(row => row.kernel_id === kernelId)
    );
  }

  /** The newest session that has a kernel of that notebook, or was created for it. */
  ofNotebook(path: string): ISession | undefined {
    return this._list
      .filter(session => session.notebooks.includes(path) || session.notebook === path)
      .sort((a, b) => b.created_at - a.created_at)[0];
  }

  /** A session once it is no longer pending or starting; undefined if it is gone by then. */
  async arrival(id: string): Promise<ISession | undefined> {
    for (;;) {
      await this.until(() => {
        const session = this.byId(id);
        return this.fresh && !(session && isLaunching(session));
      });
      // The list may have been sent before the session was created
      const session = await this.api.session(id);
      if (!session || !isLaunching(session)) {
        return session;
      }
      this.put(session);
    }
  }

  private async until(holds: () => boolean): Promise<void> {
    return new Promise(resolve => {
      const look = (): void => {
        if (holds()) {
          this.changed.disconnect(look);
          resolve();
        }
      };
      this.changed.connect(look);
      look();
    });
  }

  /** Add the result of a call, before the stream sends it. */
  put(session: ISession): void {
    const others = this._list.filter(({ id }) => id !== session.id);
    const at = this._list.findIndex(({ id }) => id === session.id);
    others.splice(at < 0 ? others.length : at, 0, session);
    this._list = others;
    this._changed.emit();
  }

  /** Drop a session that was removed, before the stream says so. */
  drop(id: string): void {
    this._list = this._list.filter(session => session.id !== id);
    this._changed.emit();
  }

  /** Connect at once instead of waiting out the pause after a failure. */
  reconnect(): void {
    this.stream.hurry();
  }

  private readonly stream: Stream;
  private _list: ISession[] = [];
  private _engine: IEngine = { ok: true, message: '', hint: '' };
  private _receivedAt = Date.now();
  private _known = false;
  private _fresh = false;
  private _changed = new Signal<this, void>(this);
  private _ticked = new Signal<this, void>(this);
}
