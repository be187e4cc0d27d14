/** Keeps the cells of sessions' kernels untrusted until the user trusts their notebook. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { ICellModel, isCodeCellModel } from '@jupyterlab/cells';
import { PageConfig } from '@jupyterlab/coreutils';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

const PROVISIONER = 'mooring-provisioner';

interface IProvisioner {
  provisioner_name?: string;
}

/** Whether the server asks for it: `c.MooringExtension.untrusted_outputs`. */
export function isWanted(): boolean {
  return PageConfig.getOption('mooringUntrustedOutputs') === 'true';
}

/**
 * JupyterLab trusts the output of every cell that it executes; output of an untrusted cell is
 * sanitized, and runs nothing. Here a cell stays untrusted when it is executed, as if its notebook
 * had been opened with that output, until the user chooses "Trust Notebook".
 */
export class UntrustedOutputs {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly notebooks: INotebookTracker
  ) {
    NotebookActions.executionScheduled.connect((_, { notebook, cell }) => {
      const panel = this.notebooks.find(panel => panel.content === notebook);
      if (panel && this.runsInSession(panel) && this.trusted.get(panel) !== kernelOf(panel)) {
        this.execute(panel, cell.model);
      }
    });
    const follow = (panel: NotebookPanel): void => {
      const watch = (): void => {
        for (const cell of panel.content.model?.cells ?? []) {
          this.watch(panel, cell);
        }
      };
      void panel.context.ready.then(watch);
      panel.content.modelContentChanged.connect(watch);
    };
    notebooks.forEach(follow);
    notebooks.widgetAdded.connect((_, panel) => follow(panel));
  }

  /** A cell is about to be executed: JupyterLab sets it trusted once, before any output comes. */
  private execute(panel: NotebookPanel, model: ICellModel): void {
    if (isCodeCellModel(model)) {
      this.watch(panel, model);
      this.executing.add(model);
      distrust(model);
      // JupyterLab calls what executes the cell in the same turn
      queueMicrotask(() => this.executing.delete(model));
    }
  }

  private watch(panel: NotebookPanel, model: ICellModel): void {
    if (this.watched.has(model)) {
      return;
    }
    this.watched.add(model);
    model.stateChanged.connect((_, change) => {
      if (change.name === 'trusted' && change.newValue) {
        this.executing.has(model) ? distrust(model) : this.trust(panel);
      }
    });
  }

  /** A cell became trusted, and not by an execution: it is the user if all cells did. */
  private trust(panel: NotebookPanel): void {
    queueMicrotask(() => {
      const cells = panel.isDisposed ? undefined : panel.content.model?.cells;
      if (cells && [...cells].every(cell => cell.trusted || !isCodeCellModel(cell))) {
        this.trusted.set(panel, kernelOf(panel));
      }
    });
  }

  /** Whether its kernel runs in a session, as far as is known; what is not known might. */
  private runsInSession(panel: NotebookPanel): boolean {
    const name = panel.sessionContext.session?.kernel?.name ?? '';
    const spec = this.app.serviceManager.kernelspecs.specs?.kernelspecs[name];
    const provisioner = spec?.metadata?.['kernel_provisioner'] as IProvisioner | undefined;
    return !spec || provisioner?.provisioner_name === PROVISIONER;
  }

  private readonly watched = new WeakSet<ICellModel>();
  private readonly executing = new WeakSet<ICellModel>();
  /** The kernel with which the user trusted each notebook; another kernel is trusted anew. */
  private readonly trusted = new WeakMap<NotebookPanel, string | undefined>();
}

function kernelOf(panel: NotebookPanel): string | undefined {
  return panel.sessionContext.session?.kernel?.id;
}

function distrust(model: ICellModel): void {
  model.trusted = false;
  // what is saved, or made of this cell, would be trusted by its metadata
  model.deleteMetadata('trusted');
}
