/** Text fields for the spec's JSON Schema, and the values that are typed into them. */

import type { ISchema, ISchemaProperty } from './api';
import { size, spelled } from './words';

/** How a property is asked for. A line or an item of `lines` and `pairs` is one line of text. */
export type FieldKind = 'text' | 'number' | 'choice' | 'switch' | 'lines' | 'pairs';

export interface IField {
  key: string;
  label: string;
  help: string;
  kind: FieldKind;
  choices: string[];
  /** What holds if nothing is typed, as it would be typed. */
  fallback: string;
}

// What is asked for at once, in this order; all else is under "More"
const FIRST = ['name', 'image', 'gpus', 'cpus', 'memory', 'idle_timeout', 'max_duration'];
// `image` builds too, the panel's server is the only target that it has, and a form is no file
const LEFT_OUT = ['build', 'target', 'distribution', 'extends'];
const WORDS: Record<string, string> = {
  gpus: 'GPUs',
  cpus: 'CPUs',
  shm: 'Shared memory',
  env: 'Environment',
  max_duration: 'Maximum duration'
};
const SIZES = ['memory', 'shm', 'record'];
const CLOCK = ['idle_timeout', 'max_duration'];

export function fieldsOf(schema: ISchema): { first: IField[]; more: IField[] } {
  const field = (key: string): IField => {
    const property = schema.properties[key];
    const kind = kindOf(property);
    return {
      key,
      label: WORDS[key] ?? (key[0].toUpperCase() + key.slice(1)).replace(/_/g, ' '),
      help: property.description ?? '',
      kind,
      choices: forms(property).flatMap(form => form.enum ?? []),
      fallback: typed(key, kind, property.default)
    };
  };
  const first = FIRST.filter(key => key in schema.properties);
  const more = Object.keys(schema.properties).filter(
    key => !first.includes(key) && !LEFT_OUT.includes(key)
  );
  return { first: first.map(field), more: more.map(field) };
}

/** All the forms that a value may have; null, which is the same as none, left out. */
function forms(property: ISchemaProperty): ISchemaProperty[] {
  const within = [...(property.anyOf ?? []), ...(property.oneOf ?? [])];
  return within.length > 0 ? within.flatMap(forms) : property.type === 'null' ? [] : [property];
}

function kindOf(property: ISchemaProperty): FieldKind {
  const all = forms(property);
  if (all.length > 0 && all.every(form => form.enum)) {
    return 'choice';
  }
  const kinds = all.flatMap(({ type }) => type ?? []).filter(type => type !== 'null');
  if (kinds.includes('boolean') && !kinds.includes('string')) {
    return 'switch';
  }
  if (kinds.includes('array')) {
    return 'lines';
  }
  if (kinds.length > 0 && kinds.every(kind => kind === 'object')) {
    return 'pairs';
  }
  return kinds.includes('number') && !kinds.includes('string') ? 'number' : 'text';
}

/** A value as it would be typed into its field; "" for none. */
export function typed(key: string, kind: FieldKind, value: unknown): string {
  if (value === null || value === undefined) {
    return '';
  }
  if (CLOCK.includes(key) && (value === 0 || value === false)) {
    return 'off';
  }
  if (CLOCK.includes(key) && typeof value === 'number') {
    return spelled(value);
  }
  if (SIZES.includes(key) && typeof value === 'number') {
    return size(value).replace(' ', '');
  }
  if (kind === 'switch') {
    return value ? 'yes' : 'no';
  }
  if (Array.isArray(value)) {
    return value.map(item => (typeof item === 'string' ? item : JSON.stringify(item))).join('\n');
  }
  if (typeof value === 'object') {
    return kind === 'pairs'
      ? Object.entries(value)
          .map(([name, item]) => `${name}=${typeof item === 'object' ? pairs(item) : item}`)
          .join('\n')
      : JSON.stringify(value);
  }
  return String(value);
}

function pairs(value: object | null): string {
  return Object.entries(value ?? {})
    .filter(([, item]) => item !== null)
    .map(([name, item]) => `${name}:${item}`)
    .join(',');
}

/**
 * What was typed, as the value of its property.
 *
 * @throws Error with what is wrong, for what a form can see; the server looks at the rest.
 */
export function parsed(field: IField, text: string): unknown {
  const lines = text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line);
  switch (field.kind) {
    case 'switch':
      return text === 'yes';
    case 'number': {
      const value = Number(text);
      // `{count: 2, model: A100}` and the like: as the server reads it, or not
      if (Number.isNaN(value)) {
        return structured(field, text);
      }
      return value;
    }
    case 'lines':
      return lines.map(mount);
    case 'pairs':
      return Object.fromEntries(lines.map(line => pair(field, line)));
    default:
      return text.startsWith('{') ? structured(field, text) : text.trim();
  }
}

function structured(field: IField, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${field.label}: “${text}” is not a number`);
  }
}

/** `corpus=./data` is a source with a name. */
function mount(line: string): unknown {
  if (line.startsWith('{')) {
    return JSON.parse(line);
  }
  const match = /^([A-Za-z0-9._-]+)=(.+)$/.exec(line);
  return match ? { name: match[1], source: match[2] } : line;
}

function pair(field: IField, line: string): [string, unknown] {
  const at = line.indexOf('=');
  if (at < 1) {
    throw new Error(`${field.label}: write NAME=value, a line for each`);
  }
  const name = line.slice(0, at).trim();
  const value = line.slice(at + 1).trim();
  if (field.key !== 'secrets') {
    return [name, value];
  }
  const source = /^(env|file):(.+)$/.exec(value);
  if (!source) {
    throw new Error(`${field.label}: write ${name}=env:VARIABLE or ${name}=file:PATH`);
  }
  return [name, { [source[1]]: source[2] }];
}
