/** Banners at the top of a notebook: what its session waits for, when it stops, why it stopped. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import { ReactWidget } from '@jupyterlab/ui-components';
import React from 'react';

import type { Actions } from './actions';
import { showProblem } from './dialogs';
import { NotebookSession } from './notebookSession';
import { MissedOutput } from './missedOutput';
import { ending, isLaunching, ISession, nearDeadline } from './session';
import type { Sessions } from './sessions';
import { counted, duration } from './format';
import { isSeen, markSeen } from './seenNotes';

interface IRow {
  kind:
    | 'pending'
    | 'starting'
    | 'degraded'
    | 'ending'
    | 'stopped'
    | 'idle'
    | 'orphaned'
    | 'missed'
    | 'note';
  text: string;
  button: string;
  act: () => unknown;
  dismiss?: () => void;
}

const ROW_PX = 34;

export class NotebookBanner extends ReactWidget {
  constructor(
    private readonly panel: NotebookPanel,
    private readonly sessions: Sessions,
    private readonly actions: Actions
  ) {
    super();
    this.addClass('mooring-Banners');
    NotebookBanner.all.add(this);
    this.notebook = NotebookSession.of(panel, sessions);
    this.missed = new MissedOutput(
      sessions.api,
      panel,
      kernelId => sessions.ofKernel(kernelId) !== undefined
    );
    this.missed.changed.connect(this.refresh, this);
    sessions.changed.connect(this.onSessions, this);
    sessions.ticked.connect(this.refresh, this);
    panel.sessionContext.kernelChanged.connect(this.refresh, this);
    panel.sessionContext.statusChanged.connect(this.refresh, this);
    panel.sessionContext.connectionStatusChanged.connect(this.refresh, this);
    panel.disposed.connect(() => this.dispose());
    this.refresh();
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    NotebookBanner.all.delete(this);
    this.leaveQueue();
    this.missed.dispose();
    super.dispose();
  }

  /** Remove a queued session when its notebook is closed. */
  private leaveQueue(): void {
    const { queued, sessions } = this;
    const others = [...NotebookBanner.all];
    if (queued?.notebook && !others.some(other => other.queued?.id === queued.id)) {
      sessions.api
        .remove(queued.id)
        .then(() => sessions.drop(queued.id))
        .catch(error => console.warn(`mooring: ${queued.name} stays in the queue`, error));
    }
  }

  protected override render(): JSX.Element {
    return (
      <>
        {this.rows.map(row => (
          <div
            key={row.kind}
            className="mooring-Banner"
            data-mooring="banner"
            data-kind={row.kind}
            role="status"
          >
            <span className="mooring-dot" aria-hidden="true" />
            <span className="mooring-Banner-text" title={row.text}>
              {row.text}
            </span>
            <button
              className="jp-Button jp-mod-styled jp-mod-accept mooring-Banner-button"
              data-mooring="banner-action"
              disabled={this.working}
              onClick={() => void this.act(row)}
            >
              {row.button}
            </button>
            {row.dismiss && (
              <button
                className="jp-Button jp-mod-styled jp-mod-reject mooring-Banner-button"
                data-mooring="banner-dismiss"
                onClick={row.dismiss}
              >
                Dismiss
              </button>
            )}
          </div>
        ))}
      </>
    );
  }

  private onSessions(): void {
    this.refresh();
    // A notebook that was opened before the sessions were known has not been compared
    const { kernelId } = this.notebook;
    if (kernelId && kernelId !== this.compared && this.sessions.ofKernel(kernelId)) {
      this.compared = kernelId;
      this.missed.compareSoon();
    }
  }

  /** Update the rows and the height that they need. */
  private refresh(): void {
    if (this.isDisposed) {
      return;
    }
    const rows = this.rowsNow();
    if (this.notebook.removed && this.notebook.removed !== this.removed) {
      this.removed = this.notebook.removed;
      this.actions.refreshKernels();
    }
    const before = this.rows.length;
    this.rows = rows;
    if (rows.length !== before || !this.isAttached) {
      this.node.style.minHeight = `${rows.length * ROW_PX}px`;
      this.setHidden(rows.length === 0);
      this.parent?.fit();
    }
    this.update();
  }

  private rowsNow(): IRow[] {
    const { notebook, missed } = this;
    const session = notebook.session;
    this.queued = session?.state === 'pending' ? session : null;
    const rows = session ? this.sessionRows(session) : [];
    if (notebook.removed) {
      rows.push({
        kind: 'stopped',
        text: `Session ${notebook.removed} was removed`,
        button: 'New kernel…',
        act: () => this.actions.chooseKernel(this.panel)
      });
    }
    const note = session?.state === 'running' ? session.note : '';
    if (session && note && !isSeen(note)) {
      rows.push({
        kind: 'note',
        text: `Session ${session.name}: ${note}`,
        button: 'Dismiss',
        act: () => markSeen(note)
      });
    }
    if (missed.count > 0) {
      const cells = counted(missed.count, 'cell');
      rows.push({
        kind: 'missed',
        text: `This notebook was disconnected while ${cells} produced output`,
        button: 'Show output',
        act: () => missed.apply(),
        dismiss: () => missed.dismiss()
      });
    }
    return rows;
  }

  private sessionRows(session: ISession): IRow[] {
    const { sessions, actions, notebook } = this;
    const rows: IRow[] = [];
    const revive = (): Promise<void> => notebook.revive(session, () => actions.start(session));
    if (isLaunching(session)) {
      rows.push({
        kind: session.state === 'pending' ? 'pending' : 'starting',
        text: `Session ${session.name}: ${session.waiting || session.state}`,
        button: 'Cancel',
        act: () => actions.cancel(session)
      });
    }
    if (session.degraded) {
      rows.push({
        kind: 'degraded',
        text: `Session ${session.name}: ${session.degraded}. Stop it and start it again`,
        button: 'Stop',
        act: () => actions.stop(session)
      });
    }
    const near = nearDeadline(session, sessions.elapsedS);
    if (near) {
      const why = near.kind === 'idle' ? 'it is idle' : 'its maximum duration is reached';
      rows.push({
        kind: 'ending',
        text: `Session ${session.name} stops in ${duration(near.inS)}: ${why}`,
        button: 'Hold for 2 hours',
        act: () => actions.hold(session, 2)
      });
    }
    if (session.state === 'stopped' || session.state === 'lost') {
      rows.push({
        kind: 'stopped',
        text: `Session ${session.name} ${ending(session)}`,
        button: 'Start again',
        act: revive
      });
    }
    if (notebook.orphaned) {
      rows.push({
        kind: 'orphaned',
        text: `The kernel still runs in session ${session.name}, for a Jupyter server with another root folder`,
        button: 'Start another kernel',
        act: () => notebook.startAnother(session)
      });
    }
    if (notebook.empty) {
      rows.push({
        kind: 'idle',
        text: `Session ${session.name} is running again; start this notebook's kernel`,
        button: 'Start kernel',
        act: revive
      });
    }
    return rows;
  }

  private async act(row: IRow): Promise<void> {
    this.working = true;
    this.update();
    try {
      await row.act();
    } catch (error) {
      await showProblem(`Failed: ${row.button}`, error);
    } finally {
      this.working = false;
      this.refresh();
    }
  }

  private static readonly all = new Set<NotebookBanner>();
  private queued: ISession | null = null;
  private readonly notebook: NotebookSession;
  private readonly missed: MissedOutput;
  private rows: IRow[] = [];
  private compared = '';
  private removed = '';
  private working = false;
}
