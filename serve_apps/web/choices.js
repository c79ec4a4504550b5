// The four voices and nine styles (platform/paluku/voices.py; a test compares the names), as radio buttons.

export const VOICES = [
  ["arjun", "Arjun", "young man"],
  ["ravi", "Ravi", "mature man"],
  ["priya", "Priya", "young woman"],
  ["lakshmi", "Lakshmi", "professional woman"],
];
export const STYLES = [
  ["neutral", "Neutral"],
  ["happy", "Happy"],
  ["laugh", "Laughing"],
  ["excited", "Excited"],
  ["empathy", "Empathetic"],
  ["surprise", "Surprised"],
  ["thinking", "Thinking"],
  ["telugu_heavy", "Telugu, strong"],
  ["telugu_mild", "Telugu, mild"],
];

/** Fill a fieldset with one radio button for each of `choices`; `onChange(value)` is told the new one. */
export function offer(fieldset, name, choices, chosen, onChange) {
  for (const [value, label, remark] of choices) {
    const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
    input.checked = value === chosen;
    const face = Object.assign(document.createElement("span"), { className: "face", textContent: label });
    if (remark) face.append(Object.assign(document.createElement("small"), { textContent: remark }));
    const choice = Object.assign(document.createElement("label"), { className: "choice" });
    choice.append(input, face);
    fieldset.append(choice);
  }
  fieldset.addEventListener("change", ({ target }) => onChange(target.value));
}

/** The name that is shown for a voice. */
export const nameOfVoice = (voice) => VOICES.find(([value]) => value === voice)[1];
