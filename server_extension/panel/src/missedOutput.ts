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
        // Their next messages may not reach this page
        this.ours.clear();
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
    this.missed = new Map();
    this._changed.emit();
  }

  /** Do not offer these executions again. */
  dismiss(): void {
    for (const execution of this.missed.values()) {
      this.dismissed.add(execution.msg_id);
    }
    this.missed = new Map();
    this._changed.emit();
  }

  dispose(): void {
    this.debouncer.dispose();
    this.sent.dispose();
    Signal.clearData(this);
  }

  private follow(kernel: Kernel.IKernelConnection | null): void {
    this.sent.stop();
    this.ours.clear();
    this.running.clear();
    this.followed.clear();
    if (this.missed.size > 0) {
      this.missed = new Map();
      this._changed.emit();
    }
    if (kernel) {
      this.sent.start(kernel, id => this.ours.add(id));
      this.compareSoon();
    }
  }

  private onIOPub(message: KernelMessage.IMessage): void {
    const parent = (message.parent_header as { msg_id?: string }).msg_id ?? '';
    if (this.ours.has(parent)) {
      return;
    }
    const type = message.header.msg_type;
    if (SHOWN.includes(type) || (type === 'status' && this.running.has(parent))) {
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
    for (const [cell, execution] of this.match(recording.executions)) {
      if (this.ours.has(execution.msg_id)) {
        continue;
      }
      if (execution.status === 'running') {
        this.running.add(execution.msg_id);
      }
      if (this.followed.has(execution.msg_id)) {
        this.write(cell, execution);
      } else if (!this.dismissed.has(execution.msg_id) && differs(cell, execution)) {
        missed.set(cell, execution);
      }
    }
    this.missed = missed;
    this._changed.emit();
  }

  /** The last execution of each cell: by the cell's id, else by its code. */
  private match(executions: IExecution[]): Map<ICodeCellModel, IExecution> {
    const byId = new Map<string, ICodeCellModel>();
    const byCode = new Map<string, ICodeCellModel>();
    for (const cell of this.panel.content.model?.cells ?? []) {
      if (cell.type === 'code') {
        byId.set(cell.id, cell as ICodeCellModel);
        byCode.set(cell.sharedModel.getSource().trim(), cell as ICodeCellModel);
      }
    }
    const last = new Map<ICodeCellModel, IExecution>();
    for (const execution of executions) {
      const cell = byId.get(execution.cell_id) ?? byCode.get(execution.code.trim());
      if (cell && execution.code.trim()) {
        last.delete(cell);
        last.set(cell, execution);
      }
    }
    return last;
  }

  private write(cell: ICodeCellModel, execution: IExecution): void {
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
  /** Executions that this page requested, and whose messages it receives. */
  private readonly ours = new Set<string>();
  /** Executions still running that others requested, or this page before a disconnection. */
  private readonly running = new Set<string>();
  /** Those of them whose cells are kept up to date. */
  private readonly followed = new Set<string>();
  private readonly dismissed = new Set<string>();
  private missed = new Map<ICodeCellModel, IExecution>();
  private _changed = new Signal<this, void>(this);
}

/** Reports the executions that this page requests from a kernel. */
class SentRequests {
  start(kernel: Kernel.IKernelConnection, onRequest: (msgId: string) => void): void {
    const onMessage = (_: unknown, { msg, direction }: Kernel.IAnyMessageArgs): void => {
      if (direction === 'send' && msg.header.msg_type === 'execute_request') {
        onRequest(msg.header.msg_id);
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
