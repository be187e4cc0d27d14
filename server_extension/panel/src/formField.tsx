/** A field of the *New session* form. */

import { HTMLSelect } from '@jupyterlab/ui-components';
import React from 'react';

import type { IField } from './fields';

interface IProps {
  field: IField;
  value: string;
  /** What an empty field stands for; shown in grey. */
  fallback: string;
  onChange: (text: string) => void;
}

type InputEvent = React.ChangeEvent<HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>;

// What an empty field stands for where the schema has no default
const EMPTY: Record<string, string> = {
  name: 'generated',
  cpus: 'no limit',
  memory: 'no limit',
  shm: 'half of the memory',
  kernel: 'python3',
  command: 'a line for /bin/sh'
};
const EXAMPLES: Record<string, string> = {
  inputs: './corpus',
  outputs: 'checkpoints=./checkpoints',
  env: 'NAME=value',
  secrets: 'NAME=env:VARIABLE'
};

export function FormField(props: IProps): JSX.Element {
  const { kind, label, help } = props.field;
  const Input =
    kind === 'choice' || kind === 'switch'
      ? Choice
      : kind === 'lines' || kind === 'pairs'
        ? Lines
        : Line;
  return (
    <label className="mooring-Field" title={help}>
      <span>{label}</span>
      <Input {...props} />
    </label>
  );
}

function Choice({ field, value, fallback, onChange }: IProps): JSX.Element {
  const choices = field.kind === 'switch' ? ['yes', 'no'] : field.choices;
  return (
    <HTMLSelect
      name={field.key}
      value={value}
      onChange={(event: InputEvent) => onChange(event.target.value)}
    >
      <option value="">{fallback || 'unchanged'}</option>
      {choices
        .filter(choice => choice !== fallback)
        .map(choice => (
          <option key={choice} value={choice}>
            {choice}
          </option>
        ))}
    </HTMLSelect>
  );
}

function Lines({ field, value, fallback, onChange }: IProps): JSX.Element {
  return (
    <textarea
      name={field.key}
      value={value}
      onChange={event => onChange(event.target.value)}
      className="jp-mod-styled"
      rows={2}
      spellCheck={false}
      placeholder={fallback || EXAMPLES[field.key]}
    />
  );
}

function Line({ field, value, fallback, onChange }: IProps): JSX.Element {
  return (
    <input
      name={field.key}
      value={value}
      onChange={event => onChange(event.target.value)}
      className="jp-mod-styled"
      type="text"
      inputMode={field.kind === 'number' ? 'decimal' : undefined}
      autoComplete="off"
      spellCheck={false}
      placeholder={fallback || EMPTY[field.key]}
    />
  );
}
