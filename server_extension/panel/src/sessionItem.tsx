/** One session in the list: what it is, what it uses, when it ends, and what can be done. */

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
  isComing,
  isHeld,
  ISession,
  nearDeadline
} from './session';
import { counted, duration, size } from './words';

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
            title="Stop it and start it again: what runs in it cannot get it back"
          >
            {session.degraded}
          </span>
        )}
        <span className="mooring-Session-state">{session.state}</span>
      </div>
      <div className="mooring-Session-facts">
        <Facts session={session} elapsedS={elapsedS} />
      </div>
      <Clock session={session} elapsedS={elapsedS} />
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
    const title =
      names.length > 0 ? `GPUs that it holds: ${names.join(', ')}` : 'GPUs that it wants';
    facts.push([counted(gpus, 'GPU'), title]);
  }
  const unused = gpusUnusedS(session, elapsedS);
  if (unused !== null) {
    facts.push([`unused for ${duration(unused)}`, 'It holds GPUs, and nothing in it uses them']);
  }
  const cpu = cpuFact(session);
  if (cpu) {
    facts.push([cpu, 'CPU in use, 100% is one core, and how many cores it may use']);
  }
  const memory = memoryFact(session);
  if (memory) {
    facts.push([memory, 'Memory in use, and how much it may use']);
  }
  for (const { session: inside, local } of session.ports) {
    facts.push([`port ${inside}`, `Port ${inside} is 127.0.0.1:${local} on the server's machine`]);
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

/** What it waits for, when it stops, or why it did. */
function Clock({ session, elapsedS }: { session: ISession; elapsedS: number }): JSX.Element {
  return (
    <div className="mooring-Session-clock">
      {clock(session, elapsedS).map(({ text, near }) => (
        <span key={text} className={near ? 'mooring-mod-near' : undefined}>
          {text}
        </span>
      ))}
    </div>
  );
}

interface IClockPart {
  text: string;
  near: boolean;
}

function clock(session: ISession, elapsedS: number): IClockPart[] {
  const plain = (text: string): IClockPart[] => [{ text, near: false }];
  if (isComing(session)) {
    return plain(session.waiting || session.state);
  }
  if (session.state === 'unknown') {
    return plain('the engine does not tell what became of it');
  }
  if (session.state !== 'running') {
    return plain(session.reason.startsWith('by ') ? `stopped ${session.reason}` : session.reason);
  }
  const near = nearDeadline(session, elapsedS)?.kind;
  const left = (value: number): string => duration(Math.max(0, value - elapsedS));
  const parts: IClockPart[] = [];
  const held = isHeld(session, elapsedS);
  if (held) {
    parts.push(...plain(`held for ${left(session.held_for_s!)}`));
  }
  if (session.idle_in_s !== null) {
    // While it works or is held the idle clock stands still
    const still = held || session.active.length > 0;
    const text = still
      ? `${held ? '' : 'in use, '}stops after ${duration(session.idle_timeout_s ?? session.idle_in_s)} idle`
      : `idle stop in ${left(session.idle_in_s)}`;
    parts.push({ text, near: near === 'idle' });
  }
  if (session.max_in_s !== null) {
    parts.push({ text: `at most ${left(session.max_in_s)} more`, near: near === 'max' });
  }
  return parts.length > 0 ? parts : plain('no time limit');
}

export function clockText(session: ISession, elapsedS: number): string {
  return clock(session, elapsedS)
    .map(({ text }) => text)
    .join(' · ');
}

/** The notebooks whose kernels hold it. */
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

function Buttons({ session, actions, elapsedS, onMore }: IProps): JSX.Element {
  const state = session.state;
  const button = (
    action: string,
    label: string,
    icon: LabIcon,
    act: () => unknown
  ): JSX.Element => (
    <button
      className="jp-Button jp-mod-minimal jp-mod-styled mooring-action"
      data-mooring={`action-${action}`}
      title={label}
      aria-label={`${label}: ${session.name}`}
      onClick={() => void act()}
    >
      <icon.react tag="span" width="16px" height="16px" />
    </button>
  );
  return (
    <div className="mooring-Session-buttons" role="group" aria-label={`Actions: ${session.name}`}>
      {state === 'running' && (
        <>
          {button('terminal', 'Open a terminal', terminalIcon, () => actions.terminal(session))}
          {session.can_run_kernels &&
            button('notebook', 'New notebook', notebookIcon, () => actions.notebook(session))}
          {button('logs', 'Logs', listIcon, () => actions.logs(session))}
          {button('hold', 'Extend by two hours', historyIcon, () =>
            actions.extend(session, nearDeadline(session, elapsedS))
          )}
          {button('stop', 'Stop', stopIcon, () => actions.stop(session))}
        </>
      )}
      {(state === 'stopped' || state === 'lost') && (
        <>
          {button('start', 'Start again', runIcon, () => actions.start(session))}
          {state === 'stopped' && button('logs', 'Logs', listIcon, () => actions.logs(session))}
        </>
      )}
      {isComing(session)
        ? button('remove', 'Cancel', deleteIcon, () => actions.cancel(session))
        : button('remove', 'Remove', deleteIcon, () => actions.remove(session))}
      {state === 'running' && (
        <button
          className="jp-Button jp-mod-minimal jp-mod-styled mooring-action"
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
      )}
    </div>
  );
}
