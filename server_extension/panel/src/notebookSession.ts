/** The session that a notebook's kernel runs in, or ran in. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import { KernelAPI, Kernel } from '@jupyterlab/services';
import type { SessionConnection } from '@jupyterlab/services/lib/session/default';

import { hasKernel, isLaunching, ISession, shortId } from './session';
import type { Sessions } from './sessions';

/** A notebook's session; one object for each notebook, shared by everything that asks. */
export class NotebookSession {
  static of(panel: NotebookPanel, sessions: Sessions): NotebookSession {
    let known = NotebookSession.known.get(panel);
    if (!known) {
      known = new NotebookSession(panel, sessions);
      NotebookSession.known.set(panel, known);
    }
    return known;
  }

  private constructor(
    private readonly panel: NotebookPanel,
    private readonly sessions: Sessions
  ) {
    panel.sessionContext.sessionChanged.connect((context, { newValue }) => {
      this.closed = !newValue && !context.isTerminating;
    });
  }

  /** Jupyter's id of the notebook's kernel, dead or alive. */
  get kernelId(): string | undefined {
    return this.panel.sessionContext.session?.kernel?.id;
  }

  /** The session of its kernel; otherwise the one that it had or is being started in. */
  get session(): ISession | undefined {
    const { sessions, kernelId } = this;
    const current = kernelId ? sessions.ofKernel(kernelId) : undefined;
    if (current) {
      this.last = { id: current.id, name: current.name, kernelId: kernelId! };
      return current;
    }
    if (this.unchanged) {
      const last = sessions.byId(this.last!.id);
      if (last) {
        return last;
      }
    }
    const opened = sessions.ofNotebook(this.panel.sessionContext.path);
    const works = this.panel.sessionContext.session?.kernel?.connectionStatus === 'connected';
    if (opened && (!works || isLaunching(opened))) {
      if (!isLaunching(opened) && kernelId) {
        this.last = { id: opened.id, name: opened.name, kernelId };
      }
      return opened;
    }
    return undefined;
  }

  /** Whether its session runs, but its kernel in that session has ended. */
  get empty(): boolean {
    const session = this.session;
    return (
      this.died && session?.state === 'running' && !hasKernel(session, this.last?.kernelId ?? '')
    );
  }

  /** Whether its kernel runs in its session, but not for this Jupyter server, which has another root. */
  get orphaned(): boolean {
    const { session, last, sessions } = this;
    const short = last ? shortId(last.kernelId) : '';
    return (
      sessions.fresh &&
      this.panel.sessionContext.session?.kernel?.connectionStatus !== 'connected' &&
      !!session?.kernel_list.some(({ id, kernel_id }) => id === short && !kernel_id)
    );
  }

  /** The name of its session after the session's removal; otherwise "". */
  get removed(): string {
    const { sessions, last } = this;
    const gone = (this.died || this.closed) && this.unchanged && sessions.fresh;
    return gone && !this.session ? last!.name : '';
  }

  /**
   * Restart its kernel, and its session if that has stopped.
   *
   * @param start starts the session; resolves to whether it succeeded.
   */
  async revive(session: ISession, start: () => Promise<boolean>): Promise<void> {
    const context = this.panel.sessionContext;
    const kernelId = this.kernelId ?? this.last?.kernelId;
    const { api } = this.sessions;
    try {
      if (!kernelId) {
        throw new Error('no kernel');
      }
      // The server remembers a kernel whose session ended: it remains the same kernel, and a
      // session that was created for it still ends with it
      await KernelAPI.restartKernel(kernelId, api.settings);
    } catch {
      if (session.state !== 'running' && !(await start())) {
        return;
      }
      await this.startAnother(session);
      return;
    }
    const connection = context.session;
    if (connection?.kernel && !connection.kernel.isDisposed) {
      await connection.kernel.reconnect();
    } else if (connection?.kernel) {
      // A disposed connection cannot reconnect, and changing to the same kernel has no effect
      const { model } = connection;
      const updated = connection as SessionConnection;
      updated.update({ ...model, kernel: null });
      updated.update(model);
    } else {
      await context.changeKernel({ id: kernelId });
    }
  }

  /** Start another kernel in its session. */
  async startAnother(session: ISession): Promise<void> {
    const { sessionContext } = this.panel;
    const { id } = await this.sessions.api.kernel(session.id, sessionContext.path);
    // JupyterLab changes the kernel of a Jupyter session that the server may not have any more
    await sessionContext.sessionManager.refreshRunning();
    await sessionContext.changeKernel({ id });
  }

  /** Whether the user has not chosen another kernel since. */
  private get unchanged(): boolean {
    const { kernelId, last } = this;
    return last !== null && (!kernelId || kernelId === last.kernelId);
  }

  /** Whether its kernel ended other than by the user's own *Shut Down Kernel*. */
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

  private static readonly known = new WeakMap<NotebookPanel, NotebookSession>();
  private last: { id: string; name: string; kernelId: string } | null = null;
  private seen: Kernel.IKernelConnection | null = null;
  private lost = false;
  // JupyterLab may find that the server has closed the kernel's Jupyter session before it hears
  // that the kernel died: the connection then goes without having been `dead`
  private closed = false;
}
