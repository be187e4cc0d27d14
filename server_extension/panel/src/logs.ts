/** The output of a session's main process, or of its kernels, in a tab. */

import { refreshIcon, Toolbar, ToolbarButton } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { Widget } from '@lumino/widgets';

import type { Api } from './api';
import { anchorIcon } from './icons';
import type { ISession } from './session';

const LINES = 2000;
const INTERVAL_MS = 3000;

export class LogsView extends Widget {
  constructor(
    private readonly api: Api,
    private readonly session: ISession
  ) {
    super();
    this.addClass('mooring-Logs');
    this.node.dataset.mooring = 'logs';
    this.title.label = `Logs: ${session.name}`;
    this.title.icon = anchorIcon;
    this.title.caption = `Output of ${session.name}`;
    this.text = document.createElement('pre');
    this.text.tabIndex = 0;
    this.node.append(this.text);
    this.poll = new Poll({
      factory: () => this.load(),
      frequency: { interval: INTERVAL_MS, backoff: true, max: 10 * INTERVAL_MS },
      standby: () => (this.isVisible ? 'when-hidden' : true)
    });
  }

  addTools(toolbar: Toolbar): void {
    toolbar.addItem(
      'refresh',
      new ToolbarButton({
        icon: refreshIcon,
        tooltip: 'Read the logs again',
        onClick: () => void this.poll.refresh()
      })
    );
  }

  override dispose(): void {
    this.poll.dispose();
    super.dispose();
  }

  private async load(): Promise<void> {
    try {
      // The id, not the name: another session may get the name later
      this.put(await this.api.logs(this.session.id, LINES));
    } catch (error) {
      this.put(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  private put(text: string): void {
    text = text || '(no output yet)';
    if (text === this.text.textContent) {
      return;
    }
    const atEnd = this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < 40;
    this.text.textContent = text;
    if (atEnd) {
      this.node.scrollTop = this.node.scrollHeight;
    }
  }

  private readonly text: HTMLPreElement;
  private readonly poll: Poll;
}
