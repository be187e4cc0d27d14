/** *New session*: a form made from the spec's JSON Schema, with the project's specs as presets. */

import { HTMLSelect } from '@jupyterlab/ui-components';
import React, { useEffect, useRef, useState } from 'react';

import type { Actions, Then } from './actions';
import { ApiError, IGpu, ISchema, ISpecFile } from './api';
import { fieldsOf, IField, parsed, typed } from './fields';
import { isComing } from './session';
import type { Sessions } from './sessions';
import { showProblem } from './dialogs';
import { counted } from './words';

interface IProps {
  sessions: Sessions;
  actions: Actions;
  then: Then;
  onClose: () => void;
}

interface IProblem {
  message: string;
  hint: string;
}

export function NewSessionForm({ sessions, actions, then, onClose }: IProps): JSX.Element {
  const [schema, setSchema] = useState<ISchema | null>(null);
  const [gpus, setGpus] = useState<IGpu[] | null>(null);
  const [specs, setSpecs] = useState<ISpecFile[]>([]);
  const [file, setFile] = useState('');
  const [values, setValues] = useState<Record<string, string>>({});
  const [next, setNext] = useState<Then>(then);
  const [working, setWorking] = useState(false);
  const [problem, setProblem] = useState<IProblem | null>(null);
  const open = useRef(true);
  const top = useRef<HTMLFormElement>(null);

  useEffect(() => {
    open.current = true;
    const api = sessions.api;
    api
      .schema()
      .then(setSchema)
      .catch(error => setProblem(told(error)));
    api
      .gpus()
      .then(setGpus)
      .catch(error => console.warn('mooring: the GPUs cannot be listed', error));
    const folder = actions.folder;
    Promise.all([api.specs(''), folder ? api.specs(folder) : []])
      .then(found => setSpecs(unique(found.flat())))
      .catch(error => console.warn('mooring: the specs of this folder cannot be listed', error));
    return () => {
      open.current = false;
    };
  }, []);
  useEffect(() => {
    if (schema) {
      top.current?.querySelector<HTMLElement>('select, input')?.focus();
    }
  }, [schema]);

  const fields = schema ? fieldsOf(schema) : { first: [], more: [] };
  const preset = specs.find(spec => spec.path === file);

  const create = async (): Promise<void> => {
    const before = new Set(sessions.list.map(({ id }) => id));
    // Once the list shows it, the list tells what it waits for: the form is in the way
    const watch = (): void => {
      if (sessions.list.some(session => !before.has(session.id) && isComing(session))) {
        sessions.changed.disconnect(watch);
        if (open.current) {
          onClose();
        }
      }
    };
    setProblem(null);
    setWorking(true);
    try {
      const given: Record<string, unknown> = {};
      for (const field of [...fields.first, ...fields.more]) {
        const text = (values[field.key] ?? '').trim();
        if (text) {
          given[field.key] = parsed(field, text);
        }
      }
      if (next === 'notebook' && !preset?.spec?.kernel) {
        given.kernel ??= 'python3';
      }
      const { name, ...rest } = given;
      sessions.changed.connect(watch);
      const made = await actions.create({
        ...(file ? { file } : {}),
        ...(name ? { name: String(name) } : {}),
        values: rest
      });
      if (made) {
        if (open.current) {
          onClose();
        }
        const there = isComing(made) ? await sessions.arrival(made.id) : made;
        if (there?.state === 'running') {
          await actions.open(there, next);
        }
      }
    } catch (error) {
      if (open.current) {
        setProblem(told(error));
      } else {
        await showProblem('The session cannot be created', error);
      }
    } finally {
      sessions.changed.disconnect(watch);
      setWorking(false);
    }
  };

  const input = (field: IField): JSX.Element => (
    <Field
      key={field.key}
      field={field}
      value={values[field.key] ?? ''}
      fallback={
        preset?.spec?.[field.key] !== undefined
          ? typed(field.key, field.kind, preset.spec[field.key])
          : field.key === 'gpus'
            ? gpuHint(gpus, field.fallback)
            : field.fallback
      }
      onChange={text => setValues({ ...values, [field.key]: text })}
    />
  );

  return (
    <form
      ref={top}
      className="mooring-Form"
      data-mooring="new-session-form"
      aria-label="New session"
      onSubmit={event => {
        event.preventDefault();
        void create();
      }}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          event.stopPropagation();
          onClose();
        }
      }}
    >
      <fieldset disabled={working || !schema}>
        <label className="mooring-Field">
          <span>Preset</span>
          <HTMLSelect name="file" value={file} onChange={event => setFile(event.target.value)}>
            <option value="">none: the defaults</option>
            {specs.map(spec => (
              <option key={spec.path} value={spec.path} disabled={!!spec.problem}>
                {spec.problem ? `${spec.path} (has a mistake)` : spec.path}
              </option>
            ))}
          </HTMLSelect>
        </label>
        {fields.first.map(input)}
        <details>
          <summary>More</summary>
          {fields.more.map(input)}
        </details>
        <label className="mooring-Field">
          <span>Then open</span>
          <HTMLSelect
            name="then"
            value={next}
            onChange={event => setNext(event.target.value as Then)}
          >
            <option value="nothing">nothing</option>
            <option value="notebook">a notebook</option>
            <option value="terminal">a terminal</option>
          </HTMLSelect>
        </label>
      </fieldset>
      {problem && (
        <div className="mooring-Form-problem" role="alert" data-mooring="form-problem">
          <p>{problem.message}</p>
          {problem.hint && <p className="mooring-hint">{problem.hint}</p>}
        </div>
      )}
      <div className="mooring-Form-buttons">
        <button
          type="button"
          className="jp-Button jp-mod-styled jp-mod-reject"
          data-mooring="close-form"
          onClick={onClose}
        >
          {working ? 'Hide' : 'Cancel'}
        </button>
        <button
          type="submit"
          className="jp-Button jp-mod-styled jp-mod-accept"
          data-mooring="create"
          disabled={working || !schema}
        >
          {working ? 'Creating…' : 'Create'}
        </button>
      </div>
    </form>
  );
}

interface IFieldProps {
  field: IField;
  value: string;
  fallback: string;
  onChange: (text: string) => void;
}

function Field({ field, value, fallback, onChange }: IFieldProps): JSX.Element {
  const common = {
    name: field.key,
    value,
    onChange: (
      event: React.ChangeEvent<HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>
    ) => onChange(event.target.value)
  };
  let input: JSX.Element;
  if (field.kind === 'choice' || field.kind === 'switch') {
    const choices = field.kind === 'switch' ? ['yes', 'no'] : field.choices;
    input = (
      <HTMLSelect {...common}>
        <option value="">{fallback || 'as it is'}</option>
        {choices
          .filter(choice => choice !== fallback)
          .map(choice => (
            <option key={choice} value={choice}>
              {choice}
            </option>
          ))}
      </HTMLSelect>
    );
  } else if (field.kind === 'lines' || field.kind === 'pairs') {
    input = (
      <textarea
        {...common}
        className="jp-mod-styled"
        rows={2}
        spellCheck={false}
        placeholder={fallback || EXAMPLES[field.key]}
      />
    );
  } else {
    input = (
      <input
        {...common}
        className="jp-mod-styled"
        type="text"
        inputMode={field.kind === 'number' ? 'decimal' : undefined}
        autoComplete="off"
        spellCheck={false}
        placeholder={fallback || EMPTY[field.key]}
      />
    );
  }
  return (
    <label className="mooring-Field" title={field.help}>
      <span>{field.label}</span>
      {input}
    </label>
  );
}

// What an empty field means
const EMPTY: Record<string, string> = {
  name: 'made up',
  cpus: 'no limit',
  memory: 'no limit',
  shm: "the engine's default",
  kernel: 'python3',
  command: 'a line for /bin/sh'
};
const EXAMPLES: Record<string, string> = {
  inputs: './corpus',
  outputs: 'checkpoints=./checkpoints',
  env: 'NAME=value',
  secrets: 'NAME=env:VARIABLE'
};

/** What an empty field for GPUs means, and how many there are to be had. */
function gpuHint(gpus: IGpu[] | null, fallback: string): string {
  if (!gpus) {
    return fallback;
  }
  const free = gpus.filter(({ state }) => state === 'free');
  const kept = free.filter(({ kept_for }) => kept_for).length;
  const keeps = kept ? `, ${kept === free.length ? '' : `${kept} of them `}kept for who waits` : '';
  return `${fallback || '0'}; ${free.length} of ${counted(gpus.length, 'GPU')} free${keeps}`;
}

function told(error: unknown): IProblem {
  return {
    message: error instanceof Error ? error.message : String(error),
    hint: error instanceof ApiError ? error.hint : ''
  };
}

function unique(specs: ISpecFile[]): ISpecFile[] {
  return [...new Map(specs.map(spec => [spec.path, spec])).values()];
}
