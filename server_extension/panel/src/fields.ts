/** Form fields for the spec's JSON Schema, and the values that are typed into them. */

import type { ISchema, ISchemaProperty } from './api';
import { size, specDuration } from './format';

/** The kind of input for a property. In `lines` and `pairs` each item is one line of text. */
export type FieldKind = 'text' | 'number' | 'choice' | 'switch' | 'lines' | 'pairs';

export interface IField {
  key: string;
  label: string;
  help: string;
  kind: FieldKind;
  choices: string[];
  /** The value of an empty field, as it would be typed. */
  fallback: string;
}

// Shown first, in this order; all others are under "More"
const FIRST = ['name', 'image', 'gpus', 'cpus', 'memory', 'idle_timeout', 'max_duration'];
// `environment` is `image`, which builds too; the panel's server is its only target, and a form is
// not a file
const LEFT_OUT = ['environment', 'build', 'target', 'distribution', 'extends'];
const LABELS: Record<string, string> = {
  gpus: 'GPUs',
  cpus: 'CPUs',
  shm: 'Shared memory',
  env: 'Environment variables',
  max_duration: 'Maximum duration'
};
const SIZES = ['memory', 'shm', 'record'];
const DURATIONS = ['idle_timeout', 'max_duration'];

export function fieldsOf(schema: ISchema): { first: IField[]; more: IField[] } {
  const field = (key: string): IField => {
    const property = schema.properties[key];
    const kind = kindOf(property);
    return {
      key,
      label: LABELS[key] ?? (key[0].toUpperCase() + key.slice(1)).replace(/_/g, ' '),
      help: property.description ?? '',
      kind,
      choices: alternatives(property).flatMap(form => form.enum ?? []),
      fallback: typed(key, kind, property.default)
    };
  };
  const first = FIRST.filter(key => key in schema.properties);
  const more = Object.keys(schema.properties).filter(
    key => !first.includes(key) && !LEFT_OUT.includes(key)
  );
  return { first: first.map(field), more: more.map(field) };
}

/** The alternative schemas of a value, without null. */
function alternatives(property: ISchemaProperty): ISchemaProperty[] {
  const within = [...(property.anyOf ?? []), ...(property.oneOf ?? [])];
  return within.length > 0
    ? within.flatMap(alternatives)
    : property.type === 'null'
      ? []
      : [property];
}

function kindOf(property: ISchemaProperty): FieldKind {
  const all = alternatives(property);
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

/** A value as it would be typed into its field; "" for no value. */
export function typed(key: string, kind: FieldKind, value: unknown): string {
  if (value === null || value === undefined) {
    return '';
  }
  if (DURATIONS.includes(key) && (value === 0 || value === false)) {
    return 'off';
  }
  if (DURATIONS.includes(key) && typeof value === 'number') {
    return specDuration(value);
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
 * The text of a field as the value of its property.
 *
 * @throws Error for mistakes that a form can detect; the server validates the rest.
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
      // such as `{"count": 2, "model": "A100"}`, which the server validates
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

/** An input or output: `corpus=./data` is a source with a name. */
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
    throw new Error(`${field.label}: write NAME=value, one per line`);
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
