/**
 * Output that cells of a notebook produced while this page was disconnected.
 *
 * Each kernel's executions are recorded in its session. Those that this page did not follow itself
 * are compared with the notebook's cells; output that differs is offered, and written into the cells
 * when the user asks for it.
 */

import type { ICodeCellModel } from '@jupyterlab/cells';
import type { IOutput } from '@jupyterlab/nbformat';
import { CodeCell } from '@jupyterlab/cells';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { OutputAreaModel } from '@jupyterlab/outputarea';
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import { JSONExt } from '@lumino/coreutils';
import { Debouncer } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import type { Api, IExecution } from './api';
import { Executions } from './executions';

const DEBOUNCE_MS = 500;
// Messages about an execution that change its cell
const SHOWN = [
  'execute_input',
  'stream',
  'display_data',
  'update_display_data',
  'execute_result',
  'error',
  'clear_output'
];

export class MissedOutput {
  /**
   * @param inSession whether a kernel runs in a session: others have no recording.
   */
  constructor(
    private readonly api: Api,
    private readonly panel: NotebookPanel,
    private readonly inSession: (kernelId: string) => boolean
  ) {
    const context = panel.sessionContext;
    context.kernelChanged.connect((_, { newValue }) => this.follow(newValue));
    context.iopubMessage.connect((_, message) => this.onIOPub(message));
    context.connectionStatusChanged.connect((_, status) => {
      if (status === 'connected') {
        this.compareSoon();
      } else {
        this.executions.disconnected();
      }
    });
    this.follow(context.session?.kernel ?? null);
  }

  /** The number of cells that miss output. */
  get count(): number {
    return this.missed.size;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Compare the recording of this notebook's kernel with its cells, after a short delay. */
  compareSoon(): void {
    if (!this.panel.isDisposed) {
      void this.debouncer.invoke();
    }
  }

  /** Write the missed output into the cells, and keep cells that still run up to date. */
  apply(): void {
    for (const [cell, execution] of this.missed) {
      this.write(cell, execution);
    }
    this.setMissed(new Map());
  }

  /** Do not offer these executions again. */
  dismiss(): void {
    for (const execution of this.missed.values()) {
      this.dismissed.add(execution.msg_id);
    }
    this.setMissed(new Map());
  }

  dispose(): void {
    this.debouncer.dispose();
    this.sent.dispose();
    Signal.clearData(this);
  }

  private follow(kernel: Kernel.IKernelConnection | null): void {
    this.sent.stop();
    this.executions.disconnected();
    this.running.clear();
    this.followed.clear();
    if (this.missed.size > 0) {
      this.setMissed(new Map());
    }
    if (kernel) {
      this.sent.start(kernel, (msgId, cellId) => this.onRequest(msgId, cellId));
      this.compareSoon();
    }
  }

  private onRequest(msgId: string, cellId: string): void {
    this.executions.requested(msgId, cellId);
    const rest = [...this.missed].filter(([cell]) => cell.id !== cellId);
    if (rest.length < this.missed.size) {
      this.setMissed(new Map(rest));
    }
  }

  private onIOPub(message: KernelMessage.IMessage): void {
    const parent = (message.parent_header as { msg_id?: string }).msg_id ?? '';
    const type = message.header.msg_type;
    if (this.executions.follows(parent)) {
      const { execution_state } = message.content as { execution_state?: string };
      if (type === 'status' && execution_state === 'idle') {
        this.executions.finished(parent);
      }
    } else if (SHOWN.includes(type) || (type === 'status' && this.running.has(parent))) {
      this.compareSoon();
    }
  }

  private async compare(): Promise<void> {
    const { panel } = this;
    const kernelId = panel.sessionContext.session?.kernel?.id;
    if (!kernelId || !this.inSession(kernelId)) {
      return;
    }
    await panel.context.ready;
    const recording = await this.api.recording(kernelId);
    if (!recording || panel.isDisposed || panel.sessionContext.session?.kernel?.id !== kernelId) {
      return;
    }
    const missed = new Map<ICodeCellModel, IExecution>();
    this.running.clear();
    const cells = this.codeCells();
    for (const [id, execution] of this.executions.missed(
      [...cells.values()].map(cell => ({ id: cell.id, source: cell.sharedModel.getSource() })),
      recording.executions
    )) {
      const cell = cells.get(id)!;
      if (execution.status === 'running') {
        this.running.add(execution.msg_id);
      }
      if (this.followed.has(execution.msg_id)) {
        this.write(cell, execution);
      } else if (!this.dismissed.has(execution.msg_id) && differs(cell, execution)) {
        missed.set(cell, execution);
      }
    }
    this.setMissed(missed);
  }

  private codeCells(): Map<string, ICodeCellModel> {
    const cells = new Map<string, ICodeCellModel>();
    for (const cell of this.panel.content.model?.cells ?? []) {
      if (cell.type === 'code') {
        cells.set(cell.id, cell as ICodeCellModel);
      }
    }
    return cells;
  }

  private setMissed(missed: Map<ICodeCellModel, IExecution>): void {
    this.missed = missed;
    this._changed.emit();
  }

  private write(cell: ICodeCellModel, execution: IExecution): void {
    if (cell.isDisposed) {
      return;
    }
    const running = execution.status === 'running';
    if (!JSONExt.deepEqual(cell.outputs.toJSON(), normal(execution.outputs, cell.trusted))) {
      cell.outputs.fromJSON(execution.outputs);
    }
    if (!running && cell.executionCount !== execution.execution_count) {
      cell.executionCount = execution.execution_count;
    }
    const widget = this.panel.content.widgets.find(({ model }) => model === cell);
    if (widget instanceof CodeCell) {
      widget.setPrompt(running ? '*' : `${execution.execution_count ?? ''}`);
    }
    if (running) {
      this.followed.add(execution.msg_id);
    } else {
      this.followed.delete(execution.msg_id);
    }
  }

  private readonly debouncer = new Debouncer(
    () =>
      this.compare().catch(error => {
        // The server may be shutting down or starting: the next connection compares again
        console.warn('mooring: the recording cannot be read', error);
      }),
    DEBOUNCE_MS
  );
  private readonly sent = new SentRequests();
  private readonly executions = new Executions();
  /** Executions still running that others requested, or this page before a disconnection. */
  private readonly running = new Set<string>();
  /** Those of them whose cells are kept up to date. */
  private readonly followed = new Set<string>();
  private readonly dismissed = new Set<string>();
  private missed = new Map<ICodeCellModel, IExecution>();
  private _changed = new Signal<this, void>(this);
}

/** Reports the executions that this page requests from a kernel, and their cells. */
class SentRequests {
  start(
    kernel: Kernel.IKernelConnection,
    onRequest: (msgId: string, cellId: string) => void
  ): void {
    const onMessage = (_: unknown, { msg, direction }: Kernel.IAnyMessageArgs): void => {
      if (direction === 'send' && msg.header.msg_type === 'execute_request') {
        const { cellId } = msg.metadata as { cellId?: string };
        onRequest(msg.header.msg_id, cellId ?? '');
      }
    };
    kernel.anyMessage.connect(onMessage);
    this.stop = () => {
      kernel.anyMessage.disconnect(onMessage);
    };
  }

  stop = (): void => {};

  dispose(): void {
    this.stop();
  }
}

/** Whether a cell shows anything other than the output of its last execution. */
export function differs(cell: ICodeCellModel, execution: IExecution): boolean {
  const running = execution.status === 'running';
  const sameCount = cell.executionCount === execution.execution_count;
  if (!running && sameCount && execution.truncated) {
    return false; // the cell has the end, and more of the beginning than was recorded
  }
  const same = JSONExt.deepEqual(cell.outputs.toJSON(), normal(execution.outputs, cell.trusted));
  return !same || (!running && !sameCount);
}

/** Outputs as a cell stores them: lines joined, streams merged, carriage returns applied. */
function normal(outputs: IOutput[], trusted: boolean): IOutput[] {
  const model = new OutputAreaModel({ values: outputs, trusted });
  const values = model.toJSON();
  model.dispose();
  return values;
}
