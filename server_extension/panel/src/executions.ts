/**
 * Which execution a cell shows, and which one it misses.
 *
 * What identifies an output is its execution, not its cell: a cell may have been run again, here or
 * elsewhere, while what an older execution printed is still on its way. So an execution is offered
 * to a cell only if nothing newer is known of it.
 */

/** A code cell of the notebook. */
export interface ICell {
  id: string;
  source: string;
}

/** What is needed of a recorded execution. */
export interface IRecorded {
  msg_id: string;
  /** The id of its cell; empty if its client sent none. */
  cell_id: string;
  code: string;
}

/** What a page knows of the executions of a notebook's cells. */
export class Executions {
  /** This page requested an execution. */
  requested(msgId: string, cellId: string): void {
    this.open.add(msgId);
    if (cellId) {
      this.latest.set(cellId, msgId);
    }
  }

  /** This page received the last message of an execution. */
  finished(msgId: string): void {
    if (this.open.delete(msgId)) {
      this.complete.add(msgId);
    }
  }

  /** The next messages of the kernel may not reach this page. */
  disconnected(): void {
    this.open.clear();
  }

  /** Whether this page has received every message of an execution so far. */
  follows(msgId: string): boolean {
    return this.open.has(msgId) || this.complete.has(msgId);
  }

  /** Whether this page requested another execution of a cell, of which nothing is recorded yet. */
  isSuperseded(cellId: string, recorded: readonly IRecorded[]): boolean {
    const latest = this.latest.get(cellId);
    return latest !== undefined && !recorded.some(({ msg_id }) => msg_id === latest);
  }

  /**
   * Find the newest execution of each cell, unless this page has followed it or knows a newer one.
   *
   * @param cells the notebook's code cells.
   * @param recorded the executions of its kernel, oldest first.
   * @returns executions by the id of their cell, in the order of the executions.
   */
  missed<T extends IRecorded>(cells: readonly ICell[], recorded: readonly T[]): Map<string, T> {
    const ids = new Set(cells.map(({ id }) => id));
    const byCode = new Map<string, string>();
    for (const { id, source } of cells) {
      const code = source.trim();
      byCode.set(code, byCode.has(code) ? '' : id); // of several, none is meant
    }
    const last = new Map<string, T>();
    for (const execution of recorded) {
      const code = execution.code.trim();
      const id = execution.cell_id || byCode.get(code) || '';
      if (code && ids.has(id)) {
        last.delete(id);
        last.set(id, execution);
      }
    }
    for (const [id, execution] of [...last]) {
      if (this.follows(execution.msg_id) || this.isSuperseded(id, recorded)) {
        last.delete(id);
      }
    }
    return last;
  }

  /** The last execution of each cell that this page requested, of any kernel. */
  private readonly latest = new Map<string, string>();
  /** Those that run, and whose messages all reach this page. */
  private readonly open = new Set<string>();
  /** Those that have ended, and whose messages all reached this page. */
  private readonly complete = new Set<string>();
}
