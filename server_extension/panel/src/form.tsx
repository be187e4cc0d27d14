/** *New session*: a form made from the spec's JSON Schema, with spec files as presets. */

import { HTMLSelect } from '@jupyterlab/ui-components';
import React, { useEffect, useRef, useState } from 'react';

import type { Actions, Then } from './actions';
import { ApiError, ISpecFile } from './api';
import { showProblem } from './dialogs';
import type { IField } from './fields';
import { createSession, fallbackOf, requestBody, useFormData } from './formData';
import { FormField } from './formField';
import type { Sessions } from './sessions';

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
  const [file, setFile] = useState('');
  const [values, setValues] = useState<Record<string, string>>({});
  const [next, setNext] = useState<Then>(then);
  const [problem, setProblem] = useState<IProblem | null>(null);
  const data = useFormData(sessions, actions, error => setProblem(problemOf(error)));
  const preset = data.specs.find(spec => spec.path === file);
  const { working, create } = useCreation(onClose, setProblem, onListed =>
    createSession(sessions, actions, requestBody(data, preset, values, next), next, onListed)
  );
  const top = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (data.ready) {
      top.current?.querySelector<HTMLElement>('select, input')?.focus();
    }
  }, [data.ready]);

  const input = (field: IField): JSX.Element => (
    <FormField
      key={field.key}
      field={field}
      value={values[field.key] ?? ''}
      fallback={fallbackOf(field, preset, data.gpus)}
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
      <fieldset disabled={working || !data.ready}>
        <PresetChoice specs={data.specs} file={file} onChange={setFile} />
        {data.first.map(input)}
        <details>
          <summary>More</summary>
          {data.more.map(input)}
        </details>
        <NextChoice next={next} onChange={setNext} />
      </fieldset>
      {problem && <Problem {...problem} />}
      <FormButtons working={working} ready={data.ready} onClose={onClose} />
    </form>
  );
}

/**
 * The creation that a press of *Create* begins; it continues when the form is closed.
 *
 * @param work creates the session; it calls its argument once the session is in the list, and the
 *   form, which then covers it, is closed.
 */
function useCreation(
  onClose: () => void,
  setProblem: (problem: IProblem | null) => void,
  work: (onListed: () => void) => Promise<void>
): { working: boolean; create: () => Promise<void> } {
  const [working, setWorking] = useState(false);
  const open = useRef(true);
  useEffect(() => {
    open.current = true;
    return () => {
      open.current = false;
    };
  }, []);
  const create = async (): Promise<void> => {
    setProblem(null);
    setWorking(true);
    try {
      await work(() => open.current && onClose());
    } catch (error) {
      if (open.current) {
        setProblem(problemOf(error));
      } else {
        await showProblem('The session cannot be created', error);
      }
    } finally {
      setWorking(false);
    }
  };
  return { working, create };
}

interface IPresetProps {
  specs: ISpecFile[];
  file: string;
  onChange: (file: string) => void;
}

function PresetChoice({ specs, file, onChange }: IPresetProps): JSX.Element {
  return (
    <label className="mooring-Field">
      <span>Preset</span>
      <HTMLSelect name="file" value={file} onChange={event => onChange(event.target.value)}>
        <option value="">default</option>
        {specs.map(spec => (
          <option key={spec.path} value={spec.path} disabled={!!spec.problem}>
            {spec.problem ? `${spec.path} (not valid)` : spec.path}
          </option>
        ))}
      </HTMLSelect>
    </label>
  );
}

interface INextProps {
  next: Then;
  onChange: (next: Then) => void;
}

function NextChoice({ next, onChange }: INextProps): JSX.Element {
  return (
    <label className="mooring-Field">
      <span>Open</span>
      <HTMLSelect name="then" value={next} onChange={event => onChange(event.target.value as Then)}>
        <option value="nothing">nothing</option>
        <option value="notebook">a notebook</option>
        <option value="terminal">a terminal</option>
      </HTMLSelect>
    </label>
  );
}

function Problem({ message, hint }: IProblem): JSX.Element {
  return (
    <div className="mooring-Form-problem" role="alert" data-mooring="form-problem">
      <p>{message}</p>
      {hint && <p className="mooring-hint">{hint}</p>}
    </div>
  );
}

interface IButtonsProps {
  working: boolean;
  ready: boolean;
  onClose: () => void;
}

function FormButtons({ working, ready, onClose }: IButtonsProps): JSX.Element {
  return (
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
        disabled={working || !ready}
      >
        {working ? 'Creating…' : 'Create'}
      </button>
    </div>
  );
}

function problemOf(error: unknown): IProblem {
  return {
    message: error instanceof Error ? error.message : String(error),
    hint: error instanceof ApiError ? error.hint : ''
  };
}
