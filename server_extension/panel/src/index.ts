/** Mooring in JupyterLab and Notebook: the panel, the banners in notebooks, the status bar item. */

import {
  ILabShell,
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IStatusBar } from '@jupyterlab/statusbar';
import { Token } from '@lumino/coreutils';

import { Actions, Then } from './actions';
import { Api } from './api';
import { NotebookBanner } from './banner';
import { anchorIcon, anchorTile } from './icons';
import { askForKernel, followKernelspecs } from './kernelspecs';
import { SessionsPanel } from './panel';
import { reconnectKernels } from './reconnect';
import { Sessions } from './sessions';
import { StatusItem } from './status';
import { isWanted, UntrustedOutputs } from './untrusted';

/** What the plugins share: one list of the sessions, and the actions. */
interface IMooring {
  sessions: Sessions;
  actions: Actions;
}

const IMooring = new Token<IMooring>('mooring:IMooring', 'The sessions of the Jupyter server.');

const COMMANDS = { show: 'mooring:show-sessions', create: 'mooring:new-session' };

const model: JupyterFrontEndPlugin<IMooring> = {
  id: 'mooring:sessions',
  description: 'Follows the sessions of the Jupyter server.',
  autoStart: true,
  provides: IMooring,
  optional: [IDefaultFileBrowser],
  activate: (app: JupyterFrontEnd, browser: IDefaultFileBrowser | null) => {
    const sessions = new Sessions(new Api());
    reconnectKernels(app, sessions);
    followKernelspecs(app, sessions);
    return { sessions, actions: new Actions(app, sessions, browser) };
  }
};

const panel: JupyterFrontEndPlugin<void> = {
  id: 'mooring:panel',
  description: 'Shows the sessions in the sidebar, and creates new ones.',
  autoStart: true,
  requires: [IMooring],
  optional: [ILabShell, ILayoutRestorer, ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    mooring: IMooring,
    lab: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null
  ) => {
    const widget = new SessionsPanel(mooring.sessions, mooring.actions);
    app.shell.add(widget, 'left', { rank: 210, type: 'Sessions' });
    restorer?.add(widget, widget.id);
    app.commands.addCommand(COMMANDS.show, {
      label: 'Show Mooring Sessions',
      execute: () => app.shell.activateById(widget.id)
    });
    app.commands.addCommand(COMMANDS.create, {
      label: args => (args['launcher'] ? 'New mooring session…' : 'New Mooring Session…'),
      caption: 'A notebook in a container: choose its image, GPUs, CPUs and memory',
      icon: args => (args['palette'] ? undefined : anchorIcon),
      execute: args => {
        app.shell.activateById(widget.id);
        widget.openForm((args['then'] as Then | undefined) ?? 'notebook');
      }
    });
    for (const command of Object.values(COMMANDS)) {
      palette?.addItem({ command, category: 'Mooring', args: { palette: true } });
    }
    if (lab) {
      launcher?.add({
        command: COMMANDS.create,
        category: 'Notebook',
        rank: 900,
        kernelIconUrl: anchorTile,
        args: { launcher: true }
      });
    }
  }
};

const banners: JupyterFrontEndPlugin<void> = {
  id: 'mooring:banners',
  description: 'Shows in a notebook what its session waits for, when it stops, and missed output.',
  autoStart: true,
  requires: [IMooring],
  // Notebook's file page has no notebooks
  optional: [INotebookTracker],
  activate: (app: JupyterFrontEnd, mooring: IMooring, notebooks: INotebookTracker | null) => {
    const add = (notebook: NotebookPanel): void => {
      askForKernel(app, notebook);
      const banner = new NotebookBanner(notebook, mooring.sessions, mooring.actions);
      notebook.contentHeader.insertWidget(0, banner);
    };
    notebooks?.forEach(add);
    notebooks?.widgetAdded.connect((_, notebook) => add(notebook));
  }
};

const status: JupyterFrontEndPlugin<void> = {
  id: 'mooring:status',
  description: "The current notebook's session, in the status bar.",
  autoStart: true,
  requires: [IMooring],
  optional: [INotebookTracker, IStatusBar],
  activate: (
    app: JupyterFrontEnd,
    { sessions }: IMooring,
    notebooks: INotebookTracker | null,
    bar: IStatusBar | null
  ) => {
    if (!notebooks || !bar) {
      return;
    }
    const item = new StatusItem(
      sessions,
      notebooks,
      () => void app.commands.execute(COMMANDS.show)
    );
    bar.registerStatusItem('mooring:status', {
      item,
      align: 'left',
      rank: 4,
      isActive: item.isActive,
      activeStateChanged: item.activeChanged
    });
  }
};

const untrusted: JupyterFrontEndPlugin<void> = {
  id: 'mooring:untrusted-outputs',
  description: 'Keeps cells of sessions untrusted until the user trusts their notebook.',
  autoStart: true,
  optional: [INotebookTracker],
  activate: (app: JupyterFrontEnd, notebooks: INotebookTracker | null) => {
    if (notebooks && isWanted()) {
      new UntrustedOutputs(app, notebooks);
    }
  }
};

export default [model, panel, banners, status, untrusted];
