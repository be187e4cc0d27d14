/** The kernelspecs of sessions, which the server has so that notebooks can be attached to them. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { NotebookPanel } from '@jupyterlab/notebook';

import { isLaunching } from './session';
import type { Sessions } from './sessions';

/** Followed by the session's name. */
const PREFIX = 'mooring-session-';

/** Have JupyterLab ask for the kernelspecs when sessions come or go: it would within a minute. */
export function followKernelspecs(app: JupyterFrontEnd, sessions: Sessions): void {
  let known = '';
  sessions.changed.connect(() => {
    if (!sessions.fresh) {
      return;
    }
    const now = sessions.list
      .filter(session => session.can_run_kernels && !isLaunching(session))
      .map(({ id }) => id)
      .sort()
      .join();
    if (now !== known) {
      known = now;
      void refreshKernelspecs(app);
    }
  });
}

/** Have JupyterLab ask for the kernelspecs now. */
export async function refreshKernelspecs(app: JupyterFrontEnd): Promise<void> {
  try {
    await app.serviceManager.kernelspecs.refreshSpecs();
  } catch (error) {
    console.warn('mooring: the kernelspecs cannot be listed', error);
  }
}

/**
 * Have JupyterLab ask which kernel a notebook gets whose session was removed. It would take one of
 * the same language if there is only one, and so start another session without a word.
 */
export function askForKernel(app: JupyterFrontEnd, notebook: NotebookPanel): void {
  const context = notebook.sessionContext;
  context.kernelPreferenceChanged.connect(() => {
    const { name, language } = context.kernelPreference;
    const { specs } = app.serviceManager.kernelspecs;
    if (language && name?.startsWith(PREFIX) && specs && !(name in specs.kernelspecs)) {
      context.kernelPreference = { ...context.kernelPreference, language: undefined };
    }
  });
}
