/** Reconnects kernels as soon as their server is back. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { ISessionContext } from '@jupyterlab/apputils';
import type { Kernel } from '@jupyterlab/services';
import type { Widget } from '@lumino/widgets';

import type { Sessions } from './sessions';

/**
 * Once the server answers again, reconnect the kernels of notebooks and consoles that run in
 * sessions. JupyterLab itself would try within 10 to 30 seconds.
 */
export function reconnectKernels(app: JupyterFrontEnd, sessions: Sessions): void {
  let disconnected = false;
  const waiting = new Set<Kernel.IKernelConnection>();
  sessions.changed.connect(() => {
    if (!sessions.fresh) {
      disconnected = sessions.known;
      return;
    }
    if (disconnected) {
      disconnected = false;
      waiting.clear();
      for (const widget of app.shell.widgets('main')) {
        const { sessionContext } = widget as Widget & { sessionContext?: ISessionContext };
        const kernel = sessionContext?.session?.kernel;
        if (kernel) {
          waiting.add(kernel);
        }
      }
    }
    for (const kernel of waiting) {
      if (kernel.isDisposed || kernel.connectionStatus === 'connected') {
        waiting.delete(kernel);
      } else if (sessions.serves(kernel.id)) {
        waiting.delete(kernel);
        kernel.reconnect().catch(() => undefined); // it keeps trying by itself
      }
    }
  });
}
