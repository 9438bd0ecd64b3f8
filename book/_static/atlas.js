// Sorts and filters the cards of the codebook atlas. What a card is sorted by stands in its data attributes; without this script the page
// is the same list, responsible codewords first. The view is kept in the address, so that it can be linked.
(function () {
  "use strict";

  var DEFAULT_SORT = "telling";

  function start(atlas) {
    var form = atlas.querySelector(".atlas-controls");
    var list = atlas.querySelector(".atlas-cards");
    var cards = Array.prototype.slice.call(list.children);
    var order = form.querySelector("#atlas-order");
    var count = form.querySelector("#atlas-count");
    var waiting = null;

    cards.forEach(function (card, rank) {
      card.rank = rank; // as written: decides between equals
      card.words = card.textContent.toLowerCase() + " " + card.dataset.tissue;
    });

    function checked(name) {
      return Array.prototype.map.call(form.querySelectorAll('input[name="' + name + '"]:checked'), function (box) {
        return box.value;
      });
    }

    // A number is an index; anything else is looked for in what the card says. All words must fit.
    function fitsWords(card, words) {
      return words.every(function (word) {
        return /^\d+$/.test(word) ? Number(word) === Number(card.dataset.index) : card.words.indexOf(word) !== -1;
      });
    }

    function fits(card, words, chosen) {
      return fitsWords(card, words) && Object.keys(chosen).every(function (name) {
        return !chosen[name].length || chosen[name].indexOf(card.dataset[name]) !== -1;
      });
    }

    function state() {
      return {
        q: form.elements.q.value.trim(),
        sort: form.elements.sort.value,
        order: order.getAttribute("aria-pressed") === "true" ? "smallest" : "",
        tissue: checked("tissue"),
        grade: checked("grade"),
        only: checked("only")
      };
    }

    function show() {
      var view = state();
      var words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
      var chosen = { tissue: view.tissue, grade: view.grade, only: view.only };
      var sign = view.order ? 1 : -1;
      var key = view.sort.replace(/-(\w)/, function (_, letter) { return letter.toUpperCase(); });
      if (view.sort === "index") { sign = -sign; } // counted upwards
      var shown = 0;
      cards.forEach(function (card) {
        card.hidden = !fits(card, words, chosen);
        shown += card.hidden ? 0 : 1;
      });
      if (view.sort === DEFAULT_SORT && !view.order) {
        cards.sort(function (a, b) { return a.rank - b.rank; }); // responsible ones first
      } else {
        cards.sort(function (a, b) { return sign * (a.dataset[key] - b.dataset[key]) || a.rank - b.rank; });
      }
      var sorted = document.createDocumentFragment();
      cards.forEach(function (card) { sorted.appendChild(card); });
      list.appendChild(sorted);
      count.textContent = shown + " of " + cards.length + " codewords" + (shown ? "" : ": none fits, remove a word or a tick");
      return view;
    }

    function remember(view) {
      var address = new URLSearchParams();
      ["q", "sort", "order", "tissue", "grade", "only"].forEach(function (name) {
        var value = String(view[name]);
        if (value && !(name === "sort" && value === DEFAULT_SORT)) { address.set(name, value); }
      });
      var query = address.toString();
      try {
        history.replaceState(null, "", location.pathname + (query ? "?" + query : "") + location.hash);
      } catch (error) {
        // a page opened as a file may refuse; the view is then not in the address
      }
    }

    function press(smallest) {
      order.setAttribute("aria-pressed", String(smallest));
    }

    function restore() {
      var address = new URLSearchParams(location.search);
      form.elements.q.value = address.get("q") || "";
      form.elements.sort.value = address.get("sort") || DEFAULT_SORT;
      if (form.elements.sort.selectedIndex < 0) { form.elements.sort.value = DEFAULT_SORT; }
      press(address.get("order") === "smallest");
      ["tissue", "grade", "only"].forEach(function (name) {
        var values = (address.get(name) || "").split(",");
        form.querySelectorAll('input[name="' + name + '"]').forEach(function (box) { box.checked = values.indexOf(box.value) !== -1; });
      });
    }

    function update() { remember(show()); }

    // A link to a card that the view leaves out shows all cards.
    function follow() {
      var target = /^#codeword-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
      if (!target || !list.contains(target)) { return; }
      if (target.hidden) { form.reset(); }
      target.scrollIntoView();
    }

    form.addEventListener("submit", function (event) { event.preventDefault(); update(); });
    form.addEventListener("change", update);
    form.addEventListener("input", function (event) {
      if (event.target.name !== "q") { return; }
      clearTimeout(waiting);
      waiting = setTimeout(update, 120);
    });
    form.addEventListener("reset", function () {
      press(false);
      setTimeout(update, 0); // when the browser has emptied the fields
    });
    order.addEventListener("click", function () {
      press(order.getAttribute("aria-pressed") !== "true");
      update();
    });
    window.addEventListener("hashchange", follow);

    restore();
    form.hidden = false;
    show();
    follow();
  }

  function startAll() { document.querySelectorAll(".codebook-atlas").forEach(start); }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", startAll);
  } else {
    startAll();
  }
})();
