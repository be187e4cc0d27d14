/** Says at the top of a notebook what its session waits for, that it ends, or why it ended. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import { ReactWidget } from '@jupyterlab/ui-components';
import React from 'react';

import type { Actions } from './actions';
import { showProblem } from './dialogs';
import { Home } from './home';
import { MissedOutput } from './missedOutput';
import { ending, isComing, ISession, nearDeadline } from './session';
import type { Sessions } from './sessions';
import { counted, duration } from './words';

interface IRow {
  kind: 'pending' | 'starting' | 'degraded' | 'ending' | 'stopped' | 'idle' | 'missed';
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
    this.home = Home.of(panel, sessions);
    this.missed = new MissedOutput(
      sessions.api,
      panel,
      kernelId => sessions.ofKernel(kernelId) !== undefined
    );
    this.missed.changed.connect(this.look, this);
    sessions.changed.connect(this.onSessions, this);
    sessions.ticked.connect(this.look, this);
    panel.sessionContext.kernelChanged.connect(this.look, this);
    panel.sessionContext.statusChanged.connect(this.look, this);
    panel.sessionContext.connectionStatusChanged.connect(this.look, this);
    panel.disposed.connect(() => this.dispose());
    this.look();
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

  /** Nobody waits any more for the GPUs of a notebook that was closed. */
  private leaveQueue(): void {
    const { queued, sessions } = this;
    const others = [...NotebookBanner.all];
    if (queued?.opened_by && !others.some(other => other.queued?.id === queued.id)) {
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
    this.look();
    // A notebook that was opened before the sessions were known has not been looked at
    const { kernelId } = this.home;
    if (kernelId && kernelId !== this.looked && this.sessions.ofKernel(kernelId)) {
      this.looked = kernelId;
      this.missed.lookSoon();
    }
  }

  /** Work out what there is to say, and take as much room as it needs. */
  private look(): void {
    if (this.isDisposed) {
      return;
    }
    const rows = this.says();
    if (this.home.removed && this.home.removed !== this.swept) {
      this.swept = this.home.removed;
      this.actions.sweep();
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

  private says(): IRow[] {
    const { sessions, actions, home } = this;
    const rows: IRow[] = [];
    const session = home.session;
    this.queued = session?.state === 'pending' ? session : null;
    if (session && isComing(session)) {
      rows.push({
        kind: session.state === 'pending' ? 'pending' : 'starting',
        text: `Session ${session.name}: ${session.waiting || session.state}`,
        button: 'Cancel',
        act: () => actions.cancel(session)
      });
    }
    if (session?.degraded) {
      rows.push({
        kind: 'degraded',
        text: `Session ${session.name}: ${session.degraded}. Stop it and start it again`,
        button: 'Stop',
        act: () => actions.stop(session)
      });
    }
    const near = session && nearDeadline(session, sessions.elapsedS);
    if (session && near) {
      const why =
        near.kind === 'idle' ? 'nothing was done in it' : 'its maximum duration will be over';
      rows.push({
        kind: 'ending',
        text: `Session ${session.name} stops in ${duration(near.inS)}: ${why}`,
        button: 'Extend by 2 hours',
        act: () => actions.extend(session, near)
      });
    }
    if (session && (session.state === 'stopped' || session.state === 'lost')) {
      rows.push({
        kind: 'stopped',
        text: `Session ${session.name} ${ending(session)}`,
        button: 'Start again',
        act: () => home.revive(session, () => actions.start(session))
      });
    }
    if (session && home.empty) {
      rows.push({
        kind: 'idle',
        text: `Session ${session.name} runs again; this notebook's kernel has to be started`,
        button: 'Start kernel',
        act: () => home.revive(session, () => actions.start(session))
      });
    }
    if (home.removed) {
      rows.push({
        kind: 'stopped',
        text: `Session ${home.removed} was removed`,
        button: 'New kernel…',
        act: () => actions.chooseKernel(this.panel)
      });
    }
    if (this.missed.count > 0) {
      rows.push({
        kind: 'missed',
        text: 'Cells of this notebook put out more while it was not connected',
        button: `Missed output (${counted(this.missed.count, 'cell')})`,
        act: () => this.missed.apply(),
        dismiss: () => this.missed.dismiss()
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
      await showProblem('That did not work', error);
    } finally {
      this.working = false;
      this.look();
    }
  }

  private static readonly all = new Set<NotebookBanner>();
  private queued: ISession | null = null;
  private readonly home: Home;
  private readonly missed: MissedOutput;
  private rows: IRow[] = [];
  private looked = '';
  private swept = '';
  private working = false;
}
