// A button that plays a film, whose slider has one place for each frame.

const SECONDS = 4; // a film's length, if it has frames enough

/** show(): called when the slider has moved. */
export function player(button, slider, show) {
  let playing = null;

  function stop() {
    cancelAnimationFrame(playing);
    playing = null;
    button.textContent = "Play";
  }

  function start() {
    const last = Number(slider.max);
    const from = slider.valueAsNumber === last ? 0 : slider.valueAsNumber;
    const rate = Math.max(last / SECONDS, 5); // frames in a second
    const begun = performance.now();
    button.textContent = "Pause";
    const tick = (now) => {
      slider.value = Math.min(from + Math.floor(((now - begun) / 1000) * rate), last);
      show();
      if (slider.valueAsNumber === last) stop();
      else playing = requestAnimationFrame(tick);
    };
    playing = requestAnimationFrame(tick);
  }

  button.addEventListener("click", () => (playing === null ? start() : stop()));
  slider.addEventListener("input", stop);

  return {
    /** The film has frames 0..last: stay at the end, if the slider is there. */
    length(last) {
      const at_end = slider.value === slider.max;
      slider.max = last;
      if (at_end) slider.value = last;
    },
  };
}
