/** Server-sent events over `fetch`, which, unlike EventSource, carries the server's token. */

import { ISignal, Signal } from '@lumino/signaling';

import { Api, ApiError } from './api';

/** `absent`: the server answers, but has no mooring extension. */
export type Link = 'connecting' | 'open' | 'unreachable' | 'absent';

export interface IServerEvent {
  event: string;
  data: unknown;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
// The server sends something every 15 s; a connection that is silent for this long is dead
const SILENCE_MS = 45_000;
// A browser opens six connections to a server at most: hidden tabs close theirs
const HIDDEN_MS = 60_000;

/** A connection to `/mooring/api/stream`, opened again whenever it ends. */
export class Stream {
  constructor(private readonly api: Api) {
    document.addEventListener('visibilitychange', this.onVisibility);
    void this.run();
  }

  get link(): Link {
    return this._link;
  }

  get linkChanged(): ISignal<this, Link> {
    return this._linkChanged;
  }

  get received(): ISignal<this, IServerEvent> {
    return this._received;
  }

  /** Try at once instead of waiting out the pause after a failure. */
  hurry(): void {
    this.wake?.();
  }

  private async run(): Promise<void> {
    let wait = FIRST_WAIT_MS;
    for (;;) {
      if (this.asleep) {
        await this.pause(Infinity);
        continue;
      }
      const began = Date.now();
      try {
        await this.listen();
        this.setLink('connecting');
      } catch (error) {
        if (this.asleep) {
          continue;
        }
        const status = error instanceof ApiError ? error.status : 0;
        this.setLink(status === 404 || status === 405 ? 'absent' : 'unreachable');
      }
      wait = Date.now() - began > SILENCE_MS ? FIRST_WAIT_MS : Math.min(wait * 2, LONGEST_WAIT_MS);
      await this.pause(wait * (0.75 + Math.random() / 2));
    }
  }

  /** Read until the connection ends. */
  private async listen(): Promise<void> {
    const abort = new AbortController();
    this.abort = abort;
    let silence = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const response = await this.api.fetch('stream', {
        signal: abort.signal,
        headers: { Accept: 'text/event-stream' }
      });
      const reader = response.body!.getReader();
      const decoder = new TextDecoder();
      let text = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) {
          return;
        }
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE_MS);
        this.setLink('open');
        const blocks = (text + decoder.decode(value, { stream: true })).split('\n\n');
        text = blocks.pop() ?? '';
        blocks.forEach(block => this.dispatch(block));
      }
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }

  private dispatch(block: string): void {
    let event = 'message';
    const data: string[] = [];
    for (const line of block.split('\n')) {
      if (line.startsWith('event:')) {
        event = line.slice(6).trim();
      } else if (line.startsWith('data:')) {
        data.push(line.slice(5));
      }
    }
    if (data.length > 0) {
      this._received.emit({ event, data: JSON.parse(data.join('\n')) });
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private setLink(link: Link): void {
    if (link !== this._link) {
      this._link = link;
      this._linkChanged.emit(link);
    }
  }

  private readonly onVisibility = (): void => {
    clearTimeout(this.sleepTimer);
    if (document.hidden) {
      this.sleepTimer = setTimeout(() => {
        this.asleep = true;
        this.abort?.abort();
      }, HIDDEN_MS);
    } else {
      this.asleep = false;
      this.wake?.();
    }
  };

  private abort: AbortController | undefined;
  private wake: (() => void) | undefined;
  private sleepTimer: ReturnType<typeof setTimeout> | undefined;
  private asleep = false;
  private _link: Link = 'connecting';
  private _linkChanged = new Signal<this, Link>(this);
  private _received = new Signal<this, IServerEvent>(this);
}
