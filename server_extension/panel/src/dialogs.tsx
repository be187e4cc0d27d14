/** The panel's dialogs. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import React from 'react';

import { ApiError } from './api';

/** Show an error with its hint. */
export async function showProblem(title: string, error: unknown): Promise<void> {
  const hint = error instanceof ApiError ? error.hint : '';
  await showDialog({
    title,
    body: (
      <div className="mooring-Dialog" data-mooring="problem">
        <p>{error instanceof Error ? error.message : String(error)}</p>
        {hint && <p className="mooring-hint">{hint}</p>}
      </div>
    ),
    buttons: [Dialog.okButton({ label: 'Close' })]
  });
}

/** Ask for confirmation. Resolves to whether the user gave it. */
export async function confirm(title: string, text: string, button: string): Promise<boolean> {
  const answer = await showDialog({
    title,
    body: <p className="mooring-Dialog">{text}</p>,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: button })],
    defaultButton: 0
  });
  return answer.button.accept;
}

/** Ask whether to trust a spec file with what it asks for beyond its folder. */
export async function askTrust(error: ApiError): Promise<boolean> {
  const answer = await showDialog({
    title: 'Trust this spec file?',
    body: (
      <div className="mooring-Dialog" data-mooring="consent">
        {/* the message ends with what the list shows */}
        <p>{error.message.replace(`: ${error.grants.join('; ')}`, ':')}</p>
        <ul>
          {error.grants.map(grant => (
            <li key={grant}>{grant}</li>
          ))}
        </ul>
        <p className="mooring-hint">Trust it only if you know where it comes from.</p>
      </div>
    ),
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Trust' })],
    defaultButton: 0
  });
  return answer.button.accept;
}
