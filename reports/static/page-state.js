// What a reader has chosen on a page, kept in its address, so that a link shows the page as they see it.
"use strict";

const pageState = (() => {
  const read = () => new URLSearchParams(location.search);

  function write(name, value) {
    const parameters = read();
    if (value) parameters.set(name, value);
    else parameters.delete(name);
    const query = parameters.toString().replaceAll("%2C", ",");
    history.replaceState(null, "", (query ? `?${query}` : location.pathname) + location.hash);
  }

  // Radio buttons ("protocol-1" -> "protocol-1-last"): all but the first of a group go into the address.
  function followRadios() {
    const parameters = read();
    for (const radio of document.querySelectorAll("input[type=radio]")) {
      const value = radio.id.slice(radio.name.length + 1);
      const first = document.querySelector(`input[name="${CSS.escape(radio.name)}"]`);
      if (parameters.get(radio.name) === value) radio.checked = true;
      radio.addEventListener("change", () => write(radio.name, radio === first ? "" : value));
    }
  }

  return { get: (name) => read().get(name) || "", write, followRadios };
})();

pageState.followRadios();
