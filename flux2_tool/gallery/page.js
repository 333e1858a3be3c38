// Search and filter on the page itself: no server, nothing stored, nothing sent.
"use strict";
(() => {
  const cards = [...document.querySelectorAll(".card")].map((card) => {
    return { card, text: card.querySelector(".about").textContent.toLowerCase(), of: card.dataset };
  });
  const form = document.querySelector(".filters");
  if (!form) return;
  const { words, model, source, copy } = form.elements;
  const count = form.querySelector("output");
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { card, text, of } of cards) {
      const fits =
        wanted.every((word) => text.includes(word)) &&
        (!model.value || of.model === model.value) &&
        (!source || !source.value || of.source === source.value) &&
        (!copy.value || of.copy === copy.value);
      card.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${cards.length}`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
})();
