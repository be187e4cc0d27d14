/** The notes on sessions that the user of this browser has dismissed: each is shown until then. */

const KEY = 'mooring:seen-notes';
const LIMIT = 100;

export function isSeen(note: string): boolean {
  return seen().includes(note);
}

export function markSeen(note: string): void {
  try {
    localStorage.setItem(KEY, JSON.stringify([...seen(), note].slice(-LIMIT)));
  } catch {
    shown.push(note); // the browser stores nothing: until the page is reloaded
  }
}

function seen(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? [...stored, ...shown] : shown;
  } catch {
    return shown;
  }
}

const shown: string[] = [];
