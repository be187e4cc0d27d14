/** One tab stop for a list of things with buttons, and arrow keys within. */

/**
 * Makes the buttons of a list's items one tab stop: Up and Down go to another item, Left and Right
 * to another button of the item, Home and End to the first and the last item (WAI-ARIA's roving
 * tabindex). The buttons' own `tabIndex` is -1.
 */
export class RovingFocus {
  /** @param list returns the list: an element whose `li` children have buttons. */
  constructor(private readonly list: () => Element | null) {}

  /** Choose the tab stop; to be called when the list was rendered. */
  update(): void {
    const { buttons, current } = this;
    const lost = current && !current.isConnected;
    const next = lost || !current ? (this.replacement() ?? buttons[0]) : current;
    this.choose(next ?? null);
    if (lost && next && document.activeElement === document.body) {
      next.focus();
    }
  }

  onFocus = (event: { target: EventTarget }): void => {
    const button = (event.target as Element).closest('button');
    if (button) {
      this.choose(button);
    }
  };

  onKeyDown = (event: {
    key: string;
    target: EventTarget;
    altKey: boolean;
    ctrlKey: boolean;
    metaKey: boolean;
    preventDefault(): void;
  }): void => {
    const button = (event.target as Element).closest('button');
    if (!button || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const items = this.items;
    const row = items.findIndex(item => item.contains(button));
    const column = buttonsOf(items[row]).indexOf(button);
    const goal = {
      ArrowDown: [row + 1, column],
      ArrowUp: [row - 1, column],
      ArrowRight: [row, column + 1],
      ArrowLeft: [row, column - 1],
      Home: [0, column],
      End: [items.length - 1, column]
    }[event.key];
    if (goal) {
      event.preventDefault();
      this.at(goal[0], goal[1])?.focus();
    }
  };

  /** What stands where the button was that is gone: the same item's, or its neighbour's. */
  private replacement(): HTMLButtonElement | undefined {
    const [row, column] = this.place;
    return this.at(Math.min(row, this.items.length - 1), column);
  }

  private at(row: number, column: number): HTMLButtonElement | undefined {
    const item = this.items[row];
    const buttons = item ? buttonsOf(item) : [];
    return column < 0 ? undefined : buttons[Math.min(column, buttons.length - 1)];
  }

  private choose(button: HTMLButtonElement | null): void {
    for (const other of this.buttons) {
      other.tabIndex = other === button ? 0 : -1;
    }
    this.current = button;
    const row = this.items.findIndex(item => item.contains(button));
    this.place = row < 0 ? [0, 0] : [row, buttonsOf(this.items[row]).indexOf(button!)];
  }

  private get items(): Element[] {
    return Array.from(this.list()?.children ?? []);
  }

  private get buttons(): HTMLButtonElement[] {
    return this.items.flatMap(buttonsOf);
  }

  private current: HTMLButtonElement | null = null;
  private place: [number, number] = [0, 0];
}

function buttonsOf(item: Element): HTMLButtonElement[] {
  return Array.from(item.querySelectorAll('button'));
}
