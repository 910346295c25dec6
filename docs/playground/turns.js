// One work at a time: a new one ends the one before.

const LATE = 150; // milliseconds after which progress is shown

/** say(sentence): tells what failed. bar: a <progress>. */
export function turns(say, bar) {
  const half = bar.closest("section");
  let running = new AbortController();
  return async (work) => {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    half.ariaBusy = "true";
    const late = setTimeout(() => {
      bar.hidden = signal.aborted;
    }, LATE);
    const progress = (share) => {
      if (!signal.aborted) bar.value = share;
    };
    try {
      await work({ signal, progress });
    } catch (error) {
      if (!signal.aborted) say(error.message);
    } finally {
      clearTimeout(late);
      if (!signal.aborted) {
        bar.hidden = true;
        half.ariaBusy = "false";
      }
    }
  };
}
