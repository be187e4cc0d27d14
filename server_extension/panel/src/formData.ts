/** What the *New session* form shows, and what it sends. */

import { useEffect, useState } from 'react';

import type { Actions, Then } from './actions';
import type { ICreate, IGpu, ISchema, ISpecFile } from './api';
import { fieldsOf, IField, parsed, typed } from './fields';
import { counted } from './format';
import { isLaunching, ISession } from './session';
import type { Sessions } from './sessions';

/** What the server knows that the form needs. */
export interface IFormData {
  /** False until the schema is there. */
  ready: boolean;
  first: IField[];
  more: IField[];
  gpus: IGpu[] | null;
  specs: ISpecFile[];
}

/** Ask the server for the schema, the GPUs and the spec files, once. */
export function useFormData(
  sessions: Sessions,
  actions: Actions,
  onError: (error: unknown) => void
): IFormData {
  const [schema, setSchema] = useState<ISchema | null>(null);
  const [gpus, setGpus] = useState<IGpu[] | null>(null);
  const [specs, setSpecs] = useState<ISpecFile[]>([]);
  useEffect(() => {
    const { api } = sessions;
    api.schema().then(setSchema).catch(onError);
    api
      .gpus()
      .then(setGpus)
      .catch(error => console.warn('mooring: the GPUs cannot be listed', error));
    const folder = actions.folder;
    Promise.all([api.specs(''), folder ? api.specs(folder) : []])
      .then(lists => setSpecs(unique(lists.flat())))
      .catch(error => console.warn('mooring: the specs of this folder cannot be listed', error));
  }, []);
  const fields = schema ? fieldsOf(schema) : { first: [], more: [] };
  return { ...fields, ready: schema !== null, gpus, specs };
}

/**
 * The body of the request that creates the session.
 *
 * @param values what was typed, by key.
 * @throws Error for a value that is not valid.
 */
export function requestBody(
  data: IFormData,
  preset: ISpecFile | undefined,
  values: Record<string, string>,
  next: Then
): ICreate {
  const given: Record<string, unknown> = {};
  for (const field of [...data.first, ...data.more]) {
    const text = (values[field.key] ?? '').trim();
    if (text) {
      given[field.key] = parsed(field, text);
    }
  }
  if (next === 'notebook' && !preset?.spec?.kernel) {
    given.kernel ??= 'python3';
  }
  const { name, ...rest } = given;
  return {
    ...(preset ? { file: preset.path } : {}),
    ...(name ? { name: String(name) } : {}),
    values: rest
  };
}

/**
 * Create a session and open a notebook or a terminal on it once it runs.
 *
 * @param onListed called as soon as the session is in the list, which then shows what it waits for.
 */
export async function createSession(
  sessions: Sessions,
  actions: Actions,
  body: ICreate,
  next: Then,
  onListed: () => void
): Promise<void> {
  const before = new Set(sessions.list.map(({ id }) => id));
  const isNew = (session: ISession): boolean => !before.has(session.id) && isLaunching(session);
  const watch = (): void => {
    if (sessions.list.some(isNew)) {
      sessions.changed.disconnect(watch);
      onListed();
    }
  };
  sessions.changed.connect(watch);
  try {
    const created = await actions.create(body);
    if (created) {
      onListed();
      const session = isLaunching(created) ? await sessions.arrival(created.id) : created;
      if (session?.state === 'running') {
        await actions.open(session, next);
      }
    }
  } finally {
    sessions.changed.disconnect(watch);
  }
}

/** What an empty field stands for: the preset's value, or the default. */
export function fallbackOf(
  field: IField,
  preset: ISpecFile | undefined,
  gpus: IGpu[] | null
): string {
  const value = preset?.spec?.[field.key];
  if (value !== undefined) {
    return typed(field.key, field.kind, value);
  }
  return field.key === 'gpus' ? gpuHint(gpus, field.fallback) : field.fallback;
}

/** The default number of GPUs, and how many are free. */
function gpuHint(gpus: IGpu[] | null, fallback: string): string {
  if (!gpus) {
    return fallback;
  }
  const free = gpus.filter(({ state }) => state === 'free');
  const reserved = free.filter(({ kept_for }) => kept_for).length;
  const which = reserved === free.length ? '' : `${reserved} of them `;
  const note = reserved ? `, ${which}reserved for a queued session` : '';
  return `${fallback || '0'}; ${free.length} of ${counted(gpus.length, 'GPU')} free${note}`;
}

function unique(specs: ISpecFile[]): ISpecFile[] {
  return [...new Map(specs.map(spec => [spec.path, spec])).values()];
}
