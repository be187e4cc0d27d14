/** The *Sessions* panel in the sidebar. */

import { addIcon, ReactWidget, Toolbar, ToolbarButton } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import type { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import { Menu, Panel } from '@lumino/widgets';
import React from 'react';

import type { Actions, Then } from './actions';
import { NewSessionForm } from './form';
import { anchorIcon } from './icons';
import { counted } from './format';
import { RovingFocus } from './roving';
import type { ISession } from './session';
import { SessionItem } from './sessionItem';
import type { Sessions } from './sessions';

export class SessionsPanel extends Panel {
  constructor(sessions: Sessions, actions: Actions) {
    super();
    this.id = 'mooring-sessions';
    this.addClass('mooring-Panel');
    this.node.dataset.mooring = 'panel';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Mooring sessions');
    this.title.icon = anchorIcon;
    this.title.caption = 'Sessions';
    this.list = new SessionList(sessions, actions);

    const toolbar = new Toolbar();
    toolbar.addClass('mooring-Panel-toolbar');
    toolbar.node.setAttribute('aria-label', 'Sessions');
    const add = new ToolbarButton({
      icon: addIcon,
      label: 'New session…',
      tooltip: 'Create a session: choose its image, GPUs, CPUs and memory',
      onClick: () => this.list.toggleForm()
    });
    this.list.formClosed.connect(() =>
      add.node.querySelector<HTMLElement>('button, .jp-ToolbarButtonComponent')?.focus()
    );
    add.node.dataset.mooring = 'new-session';
    toolbar.addItem('new-session', add);
    this.addWidget(toolbar);
    this.addWidget(this.list);
  }

  /** Show the form that creates a session, with what to open on it preselected. */
  openForm(then: Then): void {
    this.list.openForm(then);
  }

  private readonly list: SessionList;
}

class SessionList extends ReactWidget {
  constructor(
    private readonly sessions: Sessions,
    private readonly actions: Actions
  ) {
    super();
    this.addClass('mooring-Panel-body');
    sessions.changed.connect(() => this.update());
    sessions.ticked.connect(() => this.isVisible && this.update());
  }

  openForm(then: Then): void {
    this.form = then;
    this.update();
  }

  toggleForm(): void {
    this.form = this.form ? null : 'nothing';
    this.update();
  }

  /** Emitted when the form that had the focus was closed. */
  get formClosed(): ISignal<this, void> {
    return this._formClosed;
  }

  private closeForm(): void {
    const focused = this.node.querySelector('form')?.contains(document.activeElement);
    this.form = null;
    this.update();
    if (focused) {
      this._formClosed.emit();
    }
  }

  protected override onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    void this.renderPromise?.then(() => this.roving.update());
  }

  protected override render(): JSX.Element {
    const { sessions, actions } = this;
    return (
      <>
        <Notice sessions={sessions} />
        {this.form && (
          <NewSessionForm
            key={this.form}
            sessions={sessions}
            actions={actions}
            then={this.form}
            onClose={() => this.closeForm()}
          />
        )}
        {sessions.known && sessions.list.length === 0 && !this.form && (
          <div className="mooring-Empty">
            <p>No sessions yet.</p>
            <p>
              A session is a container with your files, its own packages and, if you ask for them,
              GPUs. Create one here, or choose a mooring kernel for a notebook.
            </p>
          </div>
        )}
        <ul
          className="mooring-Sessions"
          aria-label="Sessions"
          onFocus={this.roving.onFocus}
          onKeyDown={this.roving.onKeyDown}
        >
          {sessions.list.map(session => (
            <SessionItem
              key={session.id}
              session={session}
              elapsedS={sessions.elapsedS}
              actions={actions}
              onMore={(of, x, y) => this.openMenu(of, x, y)}
            />
          ))}
        </ul>
      </>
    );
  }

  private openMenu(session: ISession, x: number, y: number): void {
    if (session.state !== 'running') {
      return;
    }
    const commands = new CommandRegistry();
    const menu = new Menu({ commands });
    menu.addClass('mooring-Menu');
    const add = (label: string, execute: () => unknown): void => {
      const command = `do-${menu.items.length}`;
      commands.addCommand(command, { label, execute: () => void execute() });
      menu.addItem({ command });
    };
    for (const hours of [1, 8, 24]) {
      add(`Hold for ${counted(hours, 'hour')}`, () => this.actions.hold(session, hours));
    }
    if (session.held_for_s) {
      add('Cancel hold', () => this.actions.hold(session, 0));
    }
    menu.addItem({ type: 'separator' });
    add('Idle Timeout…', () => this.actions.changeLimit(session, 'idle_timeout'));
    add('Maximum Duration…', () => this.actions.changeLimit(session, 'max_duration'));
    const opener = document.activeElement as HTMLElement | null;
    menu.aboutToClose.connect(() => opener?.focus());
    menu.open(x, y);
  }

  private form: Then | null = null;
  private readonly roving = new RovingFocus(() => this.node.querySelector('.mooring-Sessions'));
  private readonly _formClosed = new Signal<this, void>(this);
}

/** Shown while the list may be out of date. */
function Notice({ sessions }: { sessions: Sessions }): JSX.Element {
  const { link, engine, known } = sessions;
  let text = '';
  let hint = '';
  if (link === 'unreachable') {
    text = 'Jupyter server unreachable, retrying…';
    hint = known ? 'Showing the last known state. Sessions continue without the server.' : '';
  } else if (link === 'absent') {
    text = 'This Jupyter server does not have mooring enabled.';
    hint = 'Run in its environment: jupyter server extension enable mooring_server_extension';
  } else if (!known) {
    text = 'Connecting…';
  } else if (!engine.ok) {
    text = engine.message || 'Docker does not answer.';
    hint = engine.hint;
  }
  return (
    <div
      className={`mooring-Notice${text && text !== 'Connecting…' ? ' mooring-mod-warning' : ''}`}
      role="status"
      data-mooring="notice"
      hidden={!text}
    >
      <p>{text}</p>
      {hint && <p className="mooring-hint">{hint}</p>}
    </div>
  );
}
