/** What a user can do with a session: each action with its dialogs and errors. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { InputDialog, MainAreaWidget } from '@jupyterlab/apputils';
import type { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Title, Widget } from '@lumino/widgets';

import { Api, ApiError, ICreate } from './api';
import { askTrust, confirm, showProblem } from './dialogs';
import { refreshKernelspecs } from './kernelspecs';
import { LogsView } from './logs';
import type { ISession } from './session';
import type { Sessions } from './sessions';
import { specDuration } from './format';

/** What to open once a new session runs. */
export type Then = 'notebook' | 'terminal' | 'nothing';

export class Actions {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly sessions: Sessions,
    private readonly browser: IDefaultFileBrowser | null
  ) {
    this.api = sessions.api;
  }

  /** The folder that the file browser shows, relative to the server's root. */
  get folder(): string {
    const path = this.browser?.model.path ?? '';
    return this.app.serviceManager.contents.localPath(path);
  }

  /**
   * Create a session, after asking the user to trust its spec file if that is needed.
   *
   * @returns the session, or null if the user does not trust the file.
   * @throws ApiError
   */
  async create(body: ICreate): Promise<ISession | null> {
    try {
      const session = await this.api.create(body);
      this.sessions.put(session);
      return session;
    } catch (error) {
      // if the file has changed since the user was asked, the user is asked again
      if (error instanceof ApiError && error.grants.length > 0 && body.allow !== error.digest) {
        return (await askTrust(error)) ? this.create({ ...body, allow: error.digest }) : null;
      }
      throw error;
    }
  }

  async open(session: ISession, what: Then): Promise<void> {
    if (what === 'notebook') {
      await this.notebook(session);
    } else if (what === 'terminal') {
      await this.terminal(session);
    }
  }

  async terminal(session: ISession): Promise<void> {
    await this.attempt(`Cannot open a terminal in ${session.name}`, async () => {
      const name = await this.api.terminal(session.name);
      const terminal = await this.app.commands.execute('terminal:open', { name });
      // Its title is "Terminal 1", and becomes that again once it is connected
      const title: Title<Widget> = terminal.content.title;
      const entitle = (): void => {
        title.label = session.name;
      };
      title.changed.connect(entitle);
      entitle();
    });
  }

  /** Open a new notebook in the file browser's folder, on a new kernel in the session. */
  async notebook(session: ISession): Promise<void> {
    await this.attempt(`Cannot open a notebook on ${session.name}`, async () => {
      const contents = this.app.serviceManager.contents;
      const file = await contents.newUntitled({ path: this.folder, type: 'notebook' });
      let kernel;
      try {
        kernel = await this.api.kernel(session.name, file.path);
      } catch (error) {
        await contents.delete(file.path);
        throw error;
      }
      await refreshKernelspecs(this.app); // the kernel's label
      await this.app.commands.execute('docmanager:open', {
        path: file.path,
        factory: 'Notebook',
        kernel
      });
    });
  }

  async openFile(path: string): Promise<void> {
    await this.attempt(`Cannot open ${path}`, () =>
      this.app.commands.execute('docmanager:open', { path })
    );
  }

  /** Show JupyterLab's dialog that chooses a notebook's kernel. */
  async chooseKernel(notebook: NotebookPanel): Promise<void> {
    this.app.shell.activateById(notebook.id);
    await this.app.commands.execute('notebook:change-kernel');
  }

  /** Have JupyterLab notice now which kernels are gone: otherwise it would offer them. */
  refreshKernels(): void {
    this.app.serviceManager.sessions
      .refreshRunning()
      .catch(error => console.warn('mooring: the kernels cannot be listed', error));
  }

  logs(session: ISession): void {
    const id = `mooring-logs-${session.id}`;
    const open = Array.from(this.app.shell.widgets('main')).find(widget => widget.id === id);
    if (!open) {
      const widget = new MainAreaWidget({ content: new LogsView(this.api, session) });
      widget.id = id;
      widget.content.addTools(widget.toolbar);
      this.app.shell.add(widget, 'main');
    }
    this.app.shell.activateById(id);
  }

  /**
   * Keep it for so many hours: from stopping as idle, and from a maximum duration that would end it
   * before. 0 cancels the hold.
   */
  async hold(session: ISession, hours: number): Promise<void> {
    const { name, max_duration_s, max_stop_in_s } = session;
    const held = await this.attempt(`Cannot hold ${name}`, async () =>
      this.sessions.put(await this.api.hold(name, hours ? `${hours}h` : 'off'))
    );
    const missing =
      max_stop_in_s === null ? 0 : hours * 3600 - (max_stop_in_s - this.sessions.elapsedS);
    if (held && max_duration_s && missing > 0) {
      const max_duration = specDuration(Math.ceil((max_duration_s + missing) / 60) * 60);
      await this.attempt(`${name} is held, but its maximum duration ends it before`, async () =>
        this.sessions.put(await this.api.update(name, { max_duration }))
      );
    }
  }

  /** Ask for a new idle timeout or maximum duration. */
  async changeLimit(session: ISession, key: 'idle_timeout' | 'max_duration'): Promise<void> {
    const now = key === 'idle_timeout' ? session.idle_timeout_s : session.max_duration_s;
    const what = key === 'idle_timeout' ? 'Idle timeout' : 'Maximum duration';
    const answer = await InputDialog.getText({
      title: `${what} of ${session.name}`,
      label: 'For example 30m, 8h or 2d; off for no limit',
      text: now ? specDuration(now) : 'off',
      okLabel: 'Change'
    });
    if (answer.button.accept && answer.value?.trim()) {
      const text = answer.value.trim();
      await this.attempt(`Cannot change ${session.name}`, async () =>
        this.sessions.put(await this.api.update(session.name, { [key]: text }))
      );
    }
  }

  async start(session: ISession): Promise<boolean> {
    return this.attempt(`Cannot start ${session.name}`, async () =>
      this.sessions.put(await this.api.start(session.name))
    );
  }

  async stop(session: ISession): Promise<void> {
    const confirmed = await confirm(
      `Stop ${session.name}?`,
      `${running(session)}Files and installed packages are kept, and it can be started again.`,
      'Stop'
    );
    if (confirmed) {
      await this.attempt(`Cannot stop ${session.name}`, async () =>
        this.sessions.put(await this.api.stop(session.name))
      );
    }
  }

  async remove(session: ISession): Promise<void> {
    const confirmed = await confirm(
      `Remove ${session.name}?`,
      `${running(session)}Everything written inside the container is deleted. Your own files, inputs ` +
        `and outputs are kept.`,
      'Remove'
    );
    if (confirmed) {
      await this.cancel(session);
    }
  }

  /** Remove it without confirmation: for a session that does not run yet. */
  async cancel(session: ISession): Promise<void> {
    await this.attempt(`Cannot remove ${session.name}`, async () => {
      await this.api.remove(session.name);
      this.sessions.drop(session.id);
    });
  }

  private async attempt(title: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      await showProblem(title, error);
      return false;
    }
  }

  private readonly api: Api;
}

function running(session: ISession): string {
  if (session.kernels === 0) {
    return '';
  }
  return session.kernels === 1
    ? 'Its kernel ends, and variables are lost. '
    : `Its ${session.kernels} kernels end, and variables are lost. `;
}
