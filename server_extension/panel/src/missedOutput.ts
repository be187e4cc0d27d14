/**
 * What cells of a notebook put out while nobody listened.
 *
 * A recorder in the session keeps each kernel's executions. Those that this page did not follow
 * itself are compared with the notebook's cells; what differs is offered, and written into the
 * cells when the user asks for it.
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
// What a kernel says of an execution that changes what its cell shows
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
   * @param inSession whether a kernel lives in a session: others have no recorder.
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
        this.lookSoon();
      } else {
        // What these say from here on may not reach this page
        this.ours.clear();
      }
    });
    this.follow(context.session?.kernel ?? null);
  }

  /** How many cells miss output. */
  get count(): number {
    return this.missed.size;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Look at the recording, if this notebook's kernel has one, in a moment. */
  lookSoon(): void {
    if (!this.panel.isDisposed) {
      void this.debouncer.invoke();
    }
  }

  /** Write what was missed into the cells, and keep those that still run up to date. */
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
      this.lookSoon();
    }
  }

  private onIOPub(message: KernelMessage.IMessage): void {
    const parent = (message.parent_header as { msg_id?: string }).msg_id ?? '';
    if (this.ours.has(parent)) {
      return;
    }
    const type = message.header.msg_type;
    if (SHOWN.includes(type) || (type === 'status' && this.running.has(parent))) {
      this.lookSoon();
    }
  }

  private async look(): Promise<void> {
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
      this.look().catch(error => {
        // The server may be on its way down or up: the next connection looks again
        console.warn('mooring: the recording cannot be read', error);
      }),
    DEBOUNCE_MS
  );
  private readonly sent = new Sent();
  /** Executions that this page asked for, and whose messages it gets. */
  private readonly ours = new Set<string>();
  /** Executions of others, or of this page before a disconnection, that go on. */
  private readonly running = new Set<string>();
  /** Of those, the ones whose cells are kept up to date. */
  private readonly followed = new Set<string>();
  private readonly dismissed = new Set<string>();
  private missed = new Map<ICodeCellModel, IExecution>();
  private _changed = new Signal<this, void>(this);
}

/** Hears which executions this page asks a kernel for. */
class Sent {
  start(kernel: Kernel.IKernelConnection, tell: (msgId: string) => void): void {
    const hear = (_: unknown, { msg, direction }: Kernel.IAnyMessageArgs): void => {
      if (direction === 'send' && msg.header.msg_type === 'execute_request') {
        tell(msg.header.msg_id);
      }
    };
    kernel.anyMessage.connect(hear);
    this.stop = () => {
      kernel.anyMessage.disconnect(hear);
    };
  }

  stop = (): void => {};

  dispose(): void {
    this.stop();
  }
}

/** Whether a cell shows anything else than what its last execution put out. */
export function differs(cell: ICodeCellModel, execution: IExecution): boolean {
  const running = execution.status === 'running';
  const sameCount = cell.executionCount === execution.execution_count;
  if (!running && sameCount && execution.truncated) {
    return false; // the cell has seen the end, and more of the beginning than was kept
  }
  const same = JSONExt.deepEqual(cell.outputs.toJSON(), normal(execution.outputs, cell.trusted));
  return !same || (!running && !sameCount);
}

/** Outputs as a cell keeps them: joined lines, merged streams, carriage returns obeyed. */
function normal(outputs: IOutput[], trusted: boolean): IOutput[] {
  const model = new OutputAreaModel({ values: outputs, trusted });
  const values = model.toJSON();
  model.dispose();
  return values;
}
