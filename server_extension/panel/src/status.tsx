/** The current notebook's session in the status bar. */

import type { INotebookTracker } from '@jupyterlab/notebook';
import { TextItem } from '@jupyterlab/statusbar';
import { ReactWidget } from '@jupyterlab/ui-components';
import { ISignal, Signal } from '@lumino/signaling';
import React from 'react';

import { NotebookSession } from './notebookSession';
import { anchorIcon } from './icons';
import { ISession, nearDeadline } from './session';
import { timeText } from './sessionItem';
import type { Sessions } from './sessions';
import { duration } from './format';

export class StatusItem extends ReactWidget {
  constructor(
    private readonly sessions: Sessions,
    private readonly notebooks: INotebookTracker,
    private readonly onClick: () => void
  ) {
    super();
    this.addClass('jp-mod-highlighted');
    this.addClass('mooring-Status');
    this.node.dataset.mooring = 'status-item';
    const refresh = (): void => this.refresh();
    sessions.changed.connect(refresh);
    sessions.ticked.connect(refresh);
    notebooks.currentChanged.connect((_, notebook) => {
      refresh();
      notebook?.sessionContext.kernelChanged.connect(refresh);
    });
    refresh();
  }

  /** Whether the current notebook runs in a session, or ran in one. */
  isActive = (): boolean => this.session !== undefined;

  get activeChanged(): ISignal<this, void> {
    return this._activeChanged;
  }

  protected override render(): JSX.Element {
    const session = this.session;
    if (!session) {
      return <></>;
    }
    const elapsedS = this.sessions.elapsedS;
    const near = nearDeadline(session, elapsedS);
    const state = session.state === 'running' ? '' : `: ${session.state}`;
    const ends = near ? ` · stops in ${duration(near.inS)}` : '';
    return (
      <span
        className={`mooring-Status-item${near || state ? ' mooring-mod-near' : ''}`}
        role="button"
        tabIndex={0}
        onClick={this.onClick}
        onKeyDown={event => {
          if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            this.onClick();
          }
        }}
      >
        <anchorIcon.react tag="span" width="14px" height="14px" />
        <TextItem
          source={`${session.name}${state}${ends}`}
          title={`This notebook's session: ${session.name}, ${session.state}\n${timeText(session, elapsedS)}`}
        />
      </span>
    );
  }

  private refresh(): void {
    const notebook = this.notebooks.currentWidget;
    const session = notebook ? NotebookSession.of(notebook, this.sessions).session : undefined;
    const flipped = !session !== !this.session;
    this.session = session;
    this.update();
    if (flipped) {
      this._activeChanged.emit();
    }
  }

  private session: ISession | undefined;
  private _activeChanged = new Signal<this, void>(this);
}
