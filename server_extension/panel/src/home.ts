/** Which session a notebook's kernel lives in, or lived in. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import { KernelAPI, Kernel } from '@jupyterlab/services';
import type { SessionConnection } from '@jupyterlab/services/lib/session/default';

import { hasKernel, isComing, ISession } from './session';
import type { Sessions } from './sessions';

/** What is known of a notebook's session: one for each notebook, whoever asks. */
export class Home {
  static of(panel: NotebookPanel, sessions: Sessions): Home {
    let home = Home.known.get(panel);
    if (!home) {
      home = new Home(panel, sessions);
      Home.known.set(panel, home);
    }
    return home;
  }

  private constructor(
    private readonly panel: NotebookPanel,
    private readonly sessions: Sessions
  ) {}

  /** Jupyter's id of the notebook's kernel, dead or alive. */
  get kernelId(): string | undefined {
    return this.panel.sessionContext.session?.kernel?.id;
  }

  /** Its kernel's session, or else the one that it had or starts in. */
  get session(): ISession | undefined {
    const { sessions, kernelId } = this;
    const found = kernelId ? sessions.ofKernel(kernelId) : undefined;
    if (found) {
      this.last = { id: found.id, name: found.name, kernelId: kernelId! };
      return found;
    }
    if (this.stays) {
      const last = sessions.byId(this.last!.id);
      if (last) {
        return last;
      }
    }
    const opened = sessions.ofNotebook(this.panel.sessionContext.path);
    const works = this.panel.sessionContext.session?.kernel?.connectionStatus === 'connected';
    if (opened && (!works || isComing(opened))) {
      if (!isComing(opened) && kernelId) {
        this.last = { id: opened.id, name: opened.name, kernelId };
      }
      return opened;
    }
    return undefined;
  }

  /** Whether its session runs, but the kernel that it had there has ended. */
  get empty(): boolean {
    const session = this.session;
    return (
      this.died && session?.state === 'running' && !hasKernel(session, this.last?.kernelId ?? '')
    );
  }

  /** The name of the session that it was in, once that was removed; otherwise "". */
  get removed(): string {
    const { sessions, last } = this;
    const gone = this.died && this.stays && sessions.fresh;
    return gone && !this.session ? last!.name : '';
  }

  /**
   * Start its kernel again, and its session if that does not run.
   *
   * @param start starts the session, and says whether that worked.
   */
  async revive(session: ISession, start: () => Promise<boolean>): Promise<void> {
    const context = this.panel.sessionContext;
    const kernelId = this.kernelId ?? this.last?.kernelId;
    const { api } = this.sessions;
    try {
      if (!kernelId) {
        throw new Error('no kernel');
      }
      // The server remembers a kernel whose session ended: it stays the same kernel, and the
      // session that was made for it goes with it
      await KernelAPI.restartKernel(kernelId, api.settings);
    } catch {
      if (session.state !== 'running' && !(await start())) {
        return;
      }
      const made = await api.kernel(session.id, context.path);
      await context.changeKernel({ id: made.id });
      return;
    }
    const connection = context.session;
    if (connection?.kernel && !connection.kernel.isDisposed) {
      await connection.kernel.reconnect();
    } else if (connection?.kernel) {
      // A dead connection never lives again, and a change to the same kernel is none
      const { model } = connection;
      const updated = connection as SessionConnection;
      updated.update({ ...model, kernel: null });
      updated.update(model);
    } else {
      await context.changeKernel({ id: kernelId });
    }
  }

  /** Whether no kernel elsewhere was chosen since. */
  private get stays(): boolean {
    const { kernelId, last } = this;
    return last !== null && (!kernelId || kernelId === last.kernelId);
  }

  /** Whether its kernel ended otherwise than by the user's own "shut down". */
  private get died(): boolean {
    const kernel = this.panel.sessionContext.session?.kernel;
    if (kernel && kernel !== this.seen) {
      this.seen = kernel;
      this.lost = false;
    }
    if (kernel?.status === 'dead' && !this.panel.sessionContext.isTerminating) {
      this.lost = true;
    }
    return this.lost;
  }

  private static readonly known = new WeakMap<NotebookPanel, Home>();
  private last: { id: string; name: string; kernelId: string } | null = null;
  private seen: Kernel.IKernelConnection | null = null;
  private lost = false;
}
