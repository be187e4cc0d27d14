/** What all parts of the panel know of the sessions: one copy, kept fresh by one stream. */

import { ISignal, Signal } from '@lumino/signaling';

import type { Api } from './api';
import { hasKernel, IEngine, isComing, ISession } from './session';
import { Link, Stream } from './stream';

export class Sessions {
  constructor(readonly api: Api) {
    this.stream = new Stream(api);
    this.stream.linkChanged.connect((_, link) => {
      this._fresh &&= link === 'open';
      this._changed.emit();
    });
    this.stream.received.connect((_, { event, data }) => {
      if (event === 'sessions') {
        const told = data as { sessions: ISession[]; engine?: IEngine };
        this._list = told.sessions;
        this._engine = told.engine ?? { ok: true, message: '', hint: '' };
        this._toldAt = Date.now();
        this._known = this._fresh = true;
        this._changed.emit();
      }
    });
    // Countdowns tick here, so that the server need not tell each second
    setInterval(() => {
      if (!document.hidden && this._list.some(session => session.state === 'running')) {
        this._ticked.emit();
      }
    }, 1000);
  }

  /** False until the server has told the sessions for the first time. */
  get known(): boolean {
    return this._known;
  }

  /** Whether the list is what the server told since it was last connected to. */
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

  /** Seconds since the server told; to be taken off the times to come. */
  get elapsedS(): number {
    return (Date.now() - this._toldAt) / 1000;
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

  /** Whether the server, too, knows that kernel of a session: not before it has taken it up. */
  serves(kernelId: string): boolean {
    return this._list.some(({ kernel_list }) =>
      kernel_list.some(row => row.kernel_id === kernelId)
    );
  }

  /** The newest session that has a kernel of that notebook, or was made for it. */
  ofNotebook(path: string): ISession | undefined {
    return this._list
      .filter(session => session.notebooks.includes(path) || session.opened_by === path)
      .sort((a, b) => b.created_at - a.created_at)[0];
  }

  /** A session once it is no longer on its way; undefined if it is gone by then. */
  async arrival(id: string): Promise<ISession | undefined> {
    for (;;) {
      await this.until(() => {
        const session = this.byId(id);
        return this.fresh && !(session && isComing(session));
      });
      // What was told may have been on its way since before it was made
      const session = await this.api.session(id);
      if (!session || !isComing(session)) {
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

  /** Take in what a call answered before the stream tells it. */
  put(session: ISession): void {
    const others = this._list.filter(({ id }) => id !== session.id);
    const at = this._list.findIndex(({ id }) => id === session.id);
    others.splice(at < 0 ? others.length : at, 0, session);
    this._list = others;
    this._changed.emit();
  }

  /** Forget a session that was removed, before the stream tells it. */
  drop(id: string): void {
    this._list = this._list.filter(session => session.id !== id);
    this._changed.emit();
  }

  /** Connect now, in place of waiting out the pause after a failure. */
  reconnect(): void {
    this.stream.hurry();
  }

  private readonly stream: Stream;
  private _list: ISession[] = [];
  private _engine: IEngine = { ok: true, message: '', hint: '' };
  private _toldAt = Date.now();
  private _known = false;
  private _fresh = false;
  private _changed = new Signal<this, void>(this);
  private _ticked = new Signal<this, void>(this);
}
