/** A session as the REST API tells it, and what its numbers mean. */

export type State =
  'pending' | 'starting' | 'running' | 'paused' | 'stopped' | 'lost' | 'unknown' | 'gone';

/** A GPU that a session holds, by its UUID, or so much of one. */
export interface IClaim {
  gpu: string;
  share: number;
}

/** A kernel that lives in a session. `id` is mooring's own, `kernel_id` Jupyter's, or "". */
export interface IKernelRow {
  id: string;
  kernel_id: string;
  busy: boolean;
  requests: number;
  path: string;
  name: string;
}

/** A session at one moment. Times to come are in seconds from then; null is never. */
export interface ISession {
  name: string;
  id: string;
  state: State;
  reason: string;
  image: string;
  owner: string;
  created_at: number;
  exit_code: number | null;
  kernels: number;
  busy_kernels: number;
  idle_in_s: number | null;
  max_in_s: number | null;
  held_for_s: number | null;
  active: string[];
  unknown: string[];
  cpu_percent: number | null;
  cpus: number | null;
  memory_bytes: number | null;
  memory_limit_bytes: number | null;
  gpus: number | { count?: number; model?: string | null } | null;
  claims: IClaim[];
  /** Seconds since one of its GPUs was seen in use; null for not known. */
  gpu_unused_s: number | null;
  /** What it has lost while it goes on: `gpu lost`; or "". */
  degraded: string;
  priority: number;
  changed_at: number;
  foreign: boolean;
  waiting: string;
  /** The notebook that it was made for, relative to the server's root; or "". */
  opened_by: string;
  /** Published on 127.0.0.1 of the server's machine while it runs. */
  ports: { session: number; local: number }[];
  idle_timeout_s: number | null;
  max_duration_s: number | null;
  can_run_kernels: boolean;
  kernel_list: IKernelRow[];
  notebooks: string[];
}

/** Whether the engine answers, and what to do if not. */
export interface IEngine {
  ok: boolean;
  message: string;
  hint: string;
}

/** When a session stops by its clock, and by which of its two deadlines. */
export interface IDeadline {
  kind: 'idle' | 'max';
  inS: number;
}

/** mooring's own id of a Jupyter kernel. */
export function shortId(kernelId: string): string {
  return kernelId.replace(/-/g, '').slice(0, 12);
}

/** Whether that Jupyter kernel lives in the session. */
export function hasKernel(session: ISession, kernelId: string): boolean {
  const short = shortId(kernelId);
  return session.kernel_list.some(row => row.kernel_id === kernelId || row.id === short);
}

/** Whether it is on its way: it waits for its turn, or starts. */
export function isComing({ state }: ISession): boolean {
  return state === 'pending' || state === 'starting';
}

/** The GPUs that it holds; it gives them back when it stops. */
export function heldGpus({ state, claims }: ISession): IClaim[] {
  return ['running', 'paused', 'unknown'].includes(state) ? claims : [];
}

/** How many GPUs it holds, or else how many were asked for; 0 for none. */
export function gpuCount(session: ISession): number {
  const { gpus } = session;
  const sum = heldGpus(session).reduce((sum, { share }) => sum + share, 0);
  return sum || (typeof gpus === 'number' ? gpus : gpus ? (gpus.count ?? 1) : 0);
}

// As `mooring ps` tells it
const UNUSED_S = 300;

/** For how long it has held GPUs that nothing uses, in seconds; null if they are in use. */
export function gpusUnusedS(session: ISession, elapsedS: number): number | null {
  if (session.state !== 'running' || session.gpu_unused_s === null) {
    return null;
  }
  const unused = session.gpu_unused_s + elapsedS;
  return unused >= UNUSED_S ? unused : null;
}

/** Why it does not run: `was stopped by ada`, `was stopped: idle timeout`. */
export function ending({ state, reason }: ISession): string {
  const word = state === 'lost' ? 'was lost' : 'was stopped';
  return reason ? `${word}${reason.startsWith('by ') ? '' : ':'} ${reason}` : word;
}

const WARN_S = 600;

/** Whether somebody keeps it from idling out. */
export function isHeld(session: ISession, elapsedS: number): boolean {
  return session.held_for_s !== null && session.held_for_s > elapsedS;
}

/**
 * The deadline that is near, if one is: the last ten minutes, or the last third of a short
 * timeout. The clock warns in terminals by the same rule.
 */
export function nearDeadline(session: ISession, elapsedS: number): IDeadline | null {
  if (session.state !== 'running') {
    return null;
  }
  const deadlines: [IDeadline['kind'], number | null, number | null][] = [
    ['idle', session.idle_in_s, session.idle_timeout_s],
    ['max', session.max_in_s, session.max_duration_s]
  ];
  let nearest: IDeadline | null = null;
  for (const [kind, value, length] of deadlines) {
    // It cannot idle out while it is held, nor while the clock cannot see whether it works
    const still = session.unknown.length > 0 || isHeld(session, elapsedS);
    if (value === null || (kind === 'idle' && still)) {
      continue;
    }
    const inS = Math.max(0, value - elapsedS);
    const margin = length ? Math.min(WARN_S, length / 3) : WARN_S;
    if (inS <= margin && (nearest === null || inS < nearest.inS)) {
      nearest = { kind, inS };
    }
  }
  return nearest;
}
