// The controls and the link that holds them: each named control is a parameter of it.

/** The link's part after #, with every named control. */
export function written(form) {
  return new URLSearchParams(new FormData(form)).toString();
}

/** Set the controls as a link says; return a sentence for each value that does not fit. */
export function read(form, text) {
  form.reset();
  const sentences = [];
  for (const [name, value] of new URLSearchParams(text)) {
    const control = form.elements.namedItem(name);
    if (control?.name !== name) {
      sentences.push(`The link names ${name}, which is no setting.`);
    } else if (control.type === "checkbox") {
      control.checked = value === "on";
    } else {
      const before = control.value;
      const number = ["range", "number"].includes(control.type);
      control.value = number && Number.isNaN(Number(value)) ? "" : value;
      if (control.value !== value || !control.checkValidity()) {
        if (control.type !== "range") control.value = before;
        sentences.push(
          `${name} is ${value}, ${expected(control)}: ${control.value} is taken.`,
        );
      }
    }
  }
  return sentences;
}

/** A sentence for the first control of a half whose value does not fit, or nothing. */
export function complaint(half) {
  const control = half.querySelector("input:invalid, select:invalid");
  if (!control) return "";
  const value =
    control.validity.badInput || control.value === "" ? "no number" : control.value;
  return `${control.name || control.id} is ${value}, ${expected(control)}.`;
}

/** Write each slider's value beside its name. */
export function show_values(form) {
  for (const slider of form.querySelectorAll("label > input[type=range]")) {
    const output = slider.parentElement.querySelector("output:not([id])");
    if (output) output.textContent = slider.value;
  }
}

function expected(control) {
  if (control.tagName === "SELECT") {
    return `expected one of ${[...control.options].map((option) => option.value).join(", ")}`;
  }
  const step =
    control.step > 0 && control.step !== "1" ? ` in steps of ${control.step}` : "";
  return `expected ${control.min}..${control.max}${step}`;
}
