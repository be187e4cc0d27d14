/** A session as the REST API describes it, and what its numbers mean. */

export type State =
  'pending' | 'starting' | 'running' | 'paused' | 'stopped' | 'lost' | 'unknown' | 'gone';

export const LAUNCHING: readonly State[] = ['pending', 'starting'];

/** A GPU that a session holds: its UUID, and which share of it. */
export interface IClaim {
  gpu: string;
  share: number;
}

/** A live kernel in a session. `id` is mooring's, `kernel_id` Jupyter's or "". */
export interface IKernelRow {
  id: string;
  kernel_id: string;
  busy: boolean;
  requests: number;
  path: string;
  name: string;
}

/** A session at one moment. Deadlines are in seconds from that moment; null means never. */
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
  idle_stop_in_s: number | null;
  max_stop_in_s: number | null;
  held_for_s: number | null;
  active_signals: string[];
  failed_probes: string[];
  cpu_percent: number | null;
  cpus: number | null;
  memory_bytes: number | null;
  memory_limit_bytes: number | null;
  gpus: number | { count?: number; model?: string | null } | null;
  claims: IClaim[];
  /** Seconds since one of its GPUs was in use; null if unknown. */
  gpu_unused_s: number | null;
  /** What it has lost although it runs: `gpu lost`; or "". */
  degraded: string;
  priority: number;
  changed_at: number;
  foreign: boolean;
  waiting: string;
  /** What its user should know of what is mounted in it; or "". */
  note: string;
  /** The notebook that it was created for, relative to the server's root; or "". */
  notebook: string;
  /** Published on 127.0.0.1 of the server's machine while it runs. */
  ports: { session: number; local: number }[];
  idle_timeout_s: number | null;
  max_duration_s: number | null;
  can_run_kernels: boolean;
  kernel_list: IKernelRow[];
  notebooks: string[];
}

/** Whether Docker answers, and what to do if it does not. */
export interface IEngine {
  ok: boolean;
  message: string;
  hint: string;
}

/** When a session stops, and which of its two time limits stops it. */
export interface IDeadline {
  kind: 'idle' | 'max';
  inS: number;
}

/** mooring's id of a Jupyter kernel. */
export function shortId(kernelId: string): string {
  return kernelId.replace(/-/g, '').slice(0, 12);
}

/** Whether that Jupyter kernel runs in the session. */
export function hasKernel(session: ISession, kernelId: string): boolean {
  const short = shortId(kernelId);
  return session.kernel_list.some(row => row.kernel_id === kernelId || row.id === short);
}

/** Whether it is pending or starting. */
export function isLaunching({ state }: ISession): boolean {
  return LAUNCHING.includes(state);
}

/** The GPUs that it holds; a stopped session holds none. */
export function heldGpus({ state, claims }: ISession): IClaim[] {
  return ['running', 'paused', 'unknown'].includes(state) ? claims : [];
}

/** How many GPUs it holds, or how many it asks for if it holds none; 0 for none. */
export function gpuCount(session: ISession): number {
  const { gpus } = session;
  const sum = heldGpus(session).reduce((sum, { share }) => sum + share, 0);
  return sum || (typeof gpus === 'number' ? gpus : gpus ? (gpus.count ?? 1) : 0);
}

// The same limit as in `mooring ps`
const UNUSED_S = 300;

/** How long its GPUs have been unused, in seconds; null if they are in use. */
export function gpusUnusedS(session: ISession, elapsedS: number): number | null {
  if (session.state !== 'running' || session.gpu_unused_s === null) {
    return null;
  }
  const unused = session.gpu_unused_s + elapsedS;
  return unused >= UNUSED_S ? unused : null;
}

/** Why it has stopped: `was stopped by ada`, `was stopped: idle timeout`. */
export function ending({ state, reason }: ISession): string {
  const word = state === 'lost' ? 'was lost' : 'was stopped';
  return reason ? `${word}${reason.startsWith('by ') ? '' : ':'} ${reason}` : word;
}

const WARN_S = 600;

/** Whether it is held: it does not stop as idle until then. */
export function isHeld(session: ISession, elapsedS: number): boolean {
  return session.held_for_s !== null && session.held_for_s > elapsedS;
}

/**
 * The deadline that is near, if any: within ten minutes, or within the last third of a short
 * timeout. Terminals in the session show a warning by the same rule.
 */
export function nearDeadline(session: ISession, elapsedS: number): IDeadline | null {
  if (session.state !== 'running') {
    return null;
  }
  const deadlines: [IDeadline['kind'], number | null, number | null][] = [
    ['idle', session.idle_stop_in_s, session.idle_timeout_s],
    ['max', session.max_stop_in_s, session.max_duration_s]
  ];
  let nearest: IDeadline | null = null;
  for (const [kind, value, length] of deadlines) {
    // It does not stop as idle while it is held, or while its activity is unknown
    const still = session.failed_probes.length > 0 || isHeld(session, elapsedS);
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
