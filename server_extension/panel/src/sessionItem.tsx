/** One session in the list: what it is, what it uses, when it stops, and its actions. */

import {
  deleteIcon,
  ellipsesIcon,
  historyIcon,
  LabIcon,
  listIcon,
  notebookIcon,
  runIcon,
  stopIcon,
  terminalIcon
} from '@jupyterlab/ui-components';
import React from 'react';

import type { Actions } from './actions';
import {
  gpuCount,
  gpusUnusedS,
  heldGpus,
  isLaunching,
  isHeld,
  ISession,
  nearDeadline
} from './session';
import { capitalized, counted, duration, size } from './format';

interface IProps {
  session: ISession;
  elapsedS: number;
  actions: Actions;
  onMore: (session: ISession, x: number, y: number) => void;
}

export function SessionItem(props: IProps): JSX.Element {
  const { session, elapsedS } = props;
  return (
    <li
      className="mooring-Session"
      data-mooring="session"
      data-name={session.name}
      data-state={session.state}
      aria-label={`${session.name}, ${session.state}`}
      onContextMenu={event => {
        event.preventDefault();
        props.onMore(session, event.clientX, event.clientY);
      }}
    >
      <div className="mooring-Session-head">
        <span className="mooring-dot" aria-hidden="true" />
        <span className="mooring-Session-name" title={`${session.name} (${session.id})`}>
          {session.name}
        </span>
        {session.degraded && (
          <span
            className="mooring-Session-degraded"
            data-mooring="degraded"
            title="Stop it and start it again: running programs cannot get the GPUs back"
          >
            {session.degraded}
          </span>
        )}
        <span className="mooring-Session-state">{session.state}</span>
      </div>
      <div className="mooring-Session-facts">
        <Facts session={session} elapsedS={elapsedS} />
      </div>
      <TimeLeft session={session} elapsedS={elapsedS} />
      {session.note && (
        <div className="mooring-Session-note" data-mooring="note">
          {capitalized(session.note)}
        </div>
      )}
      <Notebooks {...props} />
      <Buttons {...props} />
    </li>
  );
}

/** Image, GPUs, CPU, memory, published ports, owner. */
function Facts({ session, elapsedS }: { session: ISession; elapsedS: number }): JSX.Element {
  const facts: [string, string][] = [[session.image, 'Image']];
  const gpus = gpuCount(session);
  if (gpus > 0) {
    const names = heldGpus(session).map(({ gpu, share }) =>
      share < 1 ? `${share} of ${gpu}` : gpu
    );
    const title = names.length > 0 ? `Its GPUs: ${names.join(', ')}` : 'Requested GPUs';
    facts.push([counted(gpus, 'GPU'), title]);
  }
  const unused = gpusUnusedS(session, elapsedS);
  if (unused !== null) {
    facts.push([`unused for ${duration(unused)}`, 'It holds GPUs that no program in it uses']);
  }
  const cpu = cpuFact(session);
  if (cpu) {
    facts.push([cpu, 'CPU usage (100% is one core), and its limit']);
  }
  const memory = memoryFact(session);
  if (memory) {
    facts.push([memory, 'Memory usage, and its limit']);
  }
  for (const { session: inside, local } of session.ports) {
    facts.push([
      `port ${inside}`,
      `Port ${inside} is published at 127.0.0.1:${local} on the server's machine`
    ]);
  }
  if (session.owner) {
    facts.push([session.owner, 'Owner']);
  }
  return (
    <>
      {facts.map(([text, title]) => (
        <span key={title} title={title === 'Image' ? `Image: ${text}` : title}>
          {text}
        </span>
      ))}
    </>
  );
}

function cpuFact(session: ISession): string {
  const limit = session.cpus ? counted(session.cpus, 'CPU') : '';
  if (session.state !== 'running' || session.cpu_percent === null) {
    return limit;
  }
  const used = `${Math.round(session.cpu_percent)}%`;
  return limit ? `${used} of ${limit}` : `${used} CPU`;
}

function memoryFact(session: ISession): string {
  const limit = session.memory_limit_bytes ? size(session.memory_limit_bytes) : '';
  if (session.state !== 'running' || session.memory_bytes === null) {
    return limit;
  }
  const used = size(session.memory_bytes);
  return limit ? `${used} of ${limit}` : used;
}

/** What it waits for, when it stops, or why it stopped. */
function TimeLeft({ session, elapsedS }: { session: ISession; elapsedS: number }): JSX.Element {
  return (
    <div className="mooring-Session-clock">
      {timeParts(session, elapsedS).map(({ text, near }) => (
        <span key={text} className={near ? 'mooring-mod-near' : undefined}>
          {text}
        </span>
      ))}
    </div>
  );
}

interface ITimePart {
  text: string;
  near: boolean;
}

function timeParts(session: ISession, elapsedS: number): ITimePart[] {
  const plain = (text: string): ITimePart => ({ text: capitalized(text), near: false });
  if (isLaunching(session)) {
    return [plain(session.waiting || session.state)];
  }
  if (session.state === 'unknown') {
    return [plain('state unknown: Docker does not answer')];
  }
  if (session.state !== 'running') {
    const { reason } = session;
    return [plain(reason.startsWith('by ') ? `stopped ${reason}` : reason)];
  }
  const near = nearDeadline(session, elapsedS)?.kind;
  const left = (value: number): string => duration(Math.max(0, value - elapsedS));
  const parts: ITimePart[] = [];
  const held = isHeld(session, elapsedS);
  if (held) {
    parts.push({ text: `held for ${left(session.held_for_s!)}`, near: false });
  } else if (session.idle_stop_in_s !== null && session.active_signals.length > 0) {
    parts.push({ text: 'in use', near: false });
  }
  if (session.idle_stop_in_s !== null) {
    // The idle time is not counted while it is in use or held
    const text =
      parts.length > 0
        ? `stops after ${duration(session.idle_timeout_s ?? session.idle_stop_in_s)} idle`
        : `stops in ${left(session.idle_stop_in_s)} if idle`;
    parts.push({ text, near: near === 'idle' });
  }
  if (session.max_stop_in_s !== null) {
    parts.push({
      text: `ends in ${left(session.max_stop_in_s)} at the latest`,
      near: near === 'max'
    });
  }
  if (parts.length === 0) {
    return [plain('no time limit')];
  }
  parts[0].text = capitalized(parts[0].text);
  return parts;
}

export function timeText(session: ISession, elapsedS: number): string {
  return timeParts(session, elapsedS)
    .map(({ text }) => text)
    .join(' · ');
}

/** The notebooks whose kernels run in it. */
function Notebooks({ session, actions }: IProps): JSX.Element | null {
  if (session.notebooks.length === 0) {
    return session.kernels > 0 ? (
      <div className="mooring-Session-notebooks">{counted(session.kernels, 'kernel')}</div>
    ) : null;
  }
  return (
    <ul className="mooring-Session-notebooks" aria-label="Notebooks">
      {session.notebooks.map(path => {
        const busy = session.kernel_list.some(row => row.path === path && row.busy);
        return (
          <li key={path}>
            <button
              className="mooring-link"
              tabIndex={-1}
              title={`Open ${path}`}
              onClick={() => void actions.openFile(path)}
            >
              <notebookIcon.react tag="span" width="14px" verticalAlign="middle" />
              {path.split('/').pop()}
            </button>
            {busy && <span className="mooring-busy">busy</span>}
          </li>
        );
      })}
    </ul>
  );
}

interface IButtonProps {
  session: ISession;
  action: string;
  label: string;
  icon: LabIcon;
  onPress: () => unknown;
}

function ActionButton({ session, action, label, icon, onPress }: IButtonProps): JSX.Element {
  return (
    <button
      className="jp-Button jp-mod-minimal jp-mod-styled mooring-action"
      tabIndex={-1}
      data-mooring={`action-${action}`}
      title={label}
      aria-label={`${label}: ${session.name}`}
      onClick={() => void onPress()}
    >
      <icon.react tag="span" width="16px" height="16px" />
    </button>
  );
}

function Buttons(props: IProps): JSX.Element {
  const { session, actions } = props;
  const { state } = session;
  const stopped = state === 'stopped' || state === 'lost';
  const cancels = isLaunching(session);
  return (
    <div className="mooring-Session-buttons" role="group" aria-label={`Actions: ${session.name}`}>
      {state === 'running' && <RunningButtons {...props} />}
      {stopped && (
        <ActionButton
          session={session}
          action="start"
          label="Start again"
          icon={runIcon}
          onPress={() => actions.start(session)}
        />
      )}
      {state === 'stopped' && <LogsButton {...props} />}
      <ActionButton
        session={session}
        action="remove"
        label={cancels ? 'Cancel' : 'Remove'}
        icon={deleteIcon}
        onPress={() => (cancels ? actions.cancel(session) : actions.remove(session))}
      />
      {state === 'running' && <MoreButton {...props} />}
    </div>
  );
}

function RunningButtons(props: IProps): JSX.Element {
  const { session, actions } = props;
  const buttons: [string, string, LabIcon, () => unknown][] = [
    ['terminal', 'Open a terminal', terminalIcon, () => actions.terminal(session)],
    ['notebook', 'New notebook', notebookIcon, () => actions.notebook(session)],
    ['logs', 'Logs', listIcon, () => actions.logs(session)],
    ['hold', 'Hold for 2 hours', historyIcon, () => actions.hold(session, 2)],
    ['stop', 'Stop', stopIcon, () => actions.stop(session)]
  ];
  return (
    <>
      {buttons
        .filter(([action]) => action !== 'notebook' || session.can_run_kernels)
        .map(([action, label, icon, onPress]) => (
          <ActionButton
            key={action}
            session={session}
            action={action}
            label={label}
            icon={icon}
            onPress={onPress}
          />
        ))}
    </>
  );
}

function LogsButton({ session, actions }: IProps): JSX.Element {
  return (
    <ActionButton
      session={session}
      action="logs"
      label="Logs"
      icon={listIcon}
      onPress={() => actions.logs(session)}
    />
  );
}

function MoreButton({ session, onMore }: IProps): JSX.Element {
  return (
    <button
      className="jp-Button jp-mod-minimal jp-mod-styled mooring-action"
      tabIndex={-1}
      data-mooring="action-more"
      title="More"
      aria-label={`More: ${session.name}`}
      aria-haspopup="menu"
      onClick={event => {
        const box = event.currentTarget.getBoundingClientRect();
        onMore(session, box.left, box.bottom);
      }}
    >
      <ellipsesIcon.react tag="span" width="16px" height="16px" />
    </button>
  );
}
