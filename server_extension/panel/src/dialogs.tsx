/** What the panel asks and tells in dialogs. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import React from 'react';

import { ApiError } from './api';

/** Tell what went wrong, and what to do. */
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

/** Whether the user really wants that. */
export async function confirm(title: string, text: string, button: string): Promise<boolean> {
  const answer = await showDialog({
    title,
    body: <p className="mooring-Dialog">{text}</p>,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: button })],
    defaultButton: 0
  });
  return answer.button.accept;
}

/** Whether the user lets a session have what its spec asks for beyond its own folder. */
export async function consent(error: ApiError): Promise<boolean> {
  const answer = await showDialog({
    title: 'Allow what this spec asks for?',
    body: (
      <div className="mooring-Dialog" data-mooring="consent">
        {/* the message goes on to name what the list names */}
        <p>{error.message.replace(`: ${error.grants.join('; ')}`, ':')}</p>
        <ul>
          {error.grants.map(grant => (
            <li key={grant}>{grant}</li>
          ))}
        </ul>
        <p className="mooring-hint">Allow it only if you know where the file comes from.</p>
      </div>
    ),
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Allow' })],
    defaultButton: 0
  });
  return answer.button.accept;
}
