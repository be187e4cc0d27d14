/** The calls of mooring's REST API that the panel makes. */

import { URLExt } from '@jupyterlab/coreutils';
import type { IOutput } from '@jupyterlab/nbformat';
import { ServerConnection } from '@jupyterlab/services';

import type { ISession } from './session';

/** A spec file below the server's root. */
export interface ISpecFile {
  path: string;
  name: string | null;
  spec: Record<string, unknown> | null;
  problem: string | null;
}

/** A property of the spec's JSON Schema, as far as a form needs it. */
export interface ISchemaProperty {
  type?: string | string[];
  description?: string;
  default?: unknown;
  enum?: string[];
  anyOf?: ISchemaProperty[];
  oneOf?: ISchemaProperty[];
  items?: unknown;
  additionalProperties?: unknown;
}

export interface ISchema {
  properties: Record<string, ISchemaProperty>;
}

/** A GPU of the machine; `state` is free, held, shared, draining, outside or split. */
export interface IGpu {
  uuid: string;
  model: string;
  state: string;
  free_share: number;
  /** The queued session that its free share is reserved for; or "". */
  kept_for: string;
}

/** An execution of a kernel, with its recorded output. */
export interface IExecution {
  msg_id: string;
  cell_id: string;
  code: string;
  execution_count: number | null;
  status: 'running' | 'ok' | 'error';
  started: number;
  outputs: IOutput[];
  truncated: boolean;
}

export interface IRecording {
  executions: IExecution[];
  lost_bytes: number;
}

/** The body of a request that creates a session. */
export interface ICreate {
  file?: string;
  values?: Record<string, unknown>;
  name?: string;
  allow?: boolean | string;
}

interface IErrorBody {
  code: string;
  message: string;
  hint: string;
  grants: string[];
  digest: string;
}

/**
 * An error of the API: a code, a message and a hint. `grants` is what needs the user's trust, and
 * `digest` trusts it in a request as long as it is the same.
 */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint = '',
    readonly grants: string[] = [],
    readonly digest = ''
  ) {
    super(message);
  }
}

export class Api {
  readonly settings = ServerConnection.makeSettings();

  /** Send a request and wait for the response's headers; the body may be endless (the stream). */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const url = URLExt.join(this.settings.baseUrl, 'mooring/api', path);
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this.settings);
    } catch (error) {
      if (init.signal?.aborted) {
        throw error;
      }
      throw new ApiError(
        0,
        'unreachable',
        'the Jupyter server does not answer',
        'check that it is running'
      );
    }
    if (!response.ok) {
      throw await toError(response);
    }
    return response;
  }

  async schema(): Promise<ISchema> {
    return this.json('schema');
  }

  async specs(folder: string): Promise<ISpecFile[]> {
    const path = `specs?path=${encodeURIComponent(folder)}`;
    return (await this.json<{ specs: ISpecFile[] }>(path)).specs;
  }

  async gpus(): Promise<IGpu[]> {
    return (await this.json<{ gpus: IGpu[] }>('gpus')).gpus;
  }

  /** Create a session; the result is `pending` if it has to wait for GPUs. */
  async create(body: ICreate): Promise<ISession> {
    return this.json('sessions', 'POST', body);
  }

  /** One session; undefined if it does not exist. */
  async session(name: string): Promise<ISession | undefined> {
    try {
      return await this.json(at(name));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        return undefined;
      }
      throw error;
    }
  }

  async start(name: string): Promise<ISession> {
    return this.json(`${at(name)}/start`, 'POST', {});
  }

  async stop(name: string): Promise<ISession> {
    return this.json(`${at(name)}/stop`, 'POST', {});
  }

  async remove(name: string): Promise<void> {
    await this.fetch(`${at(name)}?force=1`, { method: 'DELETE' });
  }

  async hold(name: string, duration: string): Promise<ISession> {
    return this.json(`${at(name)}/hold`, 'POST', { duration });
  }

  async update(
    name: string,
    limits: { idle_timeout?: string; max_duration?: string }
  ): Promise<ISession> {
    return this.json(at(name), 'PATCH', limits);
  }

  async logs(name: string, lines: number): Promise<string> {
    return (await this.json<{ text: string }>(`${at(name)}/logs?tail=${lines}`)).text;
  }

  /** Open a terminal of the server whose process is in the session. Resolves to its name. */
  async terminal(name: string): Promise<string> {
    return (await this.json<{ name: string }>(`${at(name)}/terminals`, 'POST', {})).name;
  }

  /** Start a kernel in the session, for the notebook or folder at that path. */
  async kernel(name: string, path: string): Promise<{ id: string; name: string }> {
    return this.json(`${at(name)}/kernels`, 'POST', { path });
  }

  /** A kernel's recorded output; null if it has none. */
  async recording(kernelId: string): Promise<IRecording | null> {
    try {
      return await this.json(`kernels/${encodeURIComponent(kernelId)}/recording`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        return null;
      }
      throw error;
    }
  }

  private async json<T>(path: string, method = 'GET', body?: unknown): Promise<T> {
    const init: RequestInit = { method };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
    }
    return (await (await this.fetch(path, init)).json()) as T;
  }
}

function at(name: string): string {
  return `sessions/${encodeURIComponent(name)}`;
}

async function toError(response: Response): Promise<ApiError> {
  let body: Partial<IErrorBody> = {};
  try {
    body = await response.json();
  } catch {
    // a proxy's page, or nothing: the status line remains
  }
  const message = body.message || `the server answered ${response.status} ${response.statusText}`;
  return new ApiError(
    response.status,
    body.code ?? '',
    message,
    body.hint,
    body.grants,
    body.digest
  );
}
