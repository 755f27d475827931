// Callbacks of elements of the page. They end when their element leaves the page.

export function createSubscriptions() {
  /** @type {Set<{ element: HTMLElement, listener: () => void }>} */
  const subscriptions = new Set();
  return {
    /**
     * @param {HTMLElement} element
     * @param {() => void} listener
     */
    add(element, listener) {
      subscriptions.add({ element, listener });
    },
    notify() {
      for (const subscription of [...subscriptions]) {
        if (subscription.element.isConnected) subscription.listener();
        else subscriptions.delete(subscription);
      }
    },
  };
}
