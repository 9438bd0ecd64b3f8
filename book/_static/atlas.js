// Sorts and filters the cards of the codebook atlas. What a card is sorted by stands in its data attributes; without this script the page
// is the same list, responsible codewords first. The view is kept in the address, so that it can be linked.
(function () {
  "use strict";

  var DEFAULT_SORT = "telling";
  var STEP = 24; // cards shown at first, and with each "Show more"

  var TUMOUR = ["net", "ed", "et"];

  function wordsOf(text) { return text.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean); }

  function start(atlas) {
    var form = atlas.querySelector(".atlas-controls");
    var list = atlas.querySelector(".atlas-cards");
    var cards = Array.prototype.slice.call(list.children);
    var order = form.querySelector("#atlas-order");
    var count = form.querySelector("#atlas-count");
    var more = atlas.querySelector(".atlas-more");
    var limit = STEP;
    var waiting = null;

    cards.forEach(function (card, rank) {
      card.rank = rank; // as written: decides between equals
      card.words = wordsOf(card.querySelector(".atlas-tags").textContent + " " + card.dataset.tissue +
        (TUMOUR.indexOf(card.dataset.tissue) !== -1 ? " tumour" : ""));
    });

    function checked(name) {
      return Array.prototype.map.call(form.querySelectorAll('input[name="' + name + '"]:checked'), function (box) {
        return box.value;
      });
    }

    // A number is an index; anything else the beginning of a word of the tags or of the tissue it mostly lies on. All words must fit.
    function fitsWords(card, words) {
      return words.every(function (word) {
        return /^\d+$/.test(word) ? Number(word) === Number(card.dataset.index) : card.words.some(function (own) { return own.indexOf(word) === 0; });
      });
    }

    function fits(card, words, chosen) {
      return fitsWords(card, words) && Object.keys(chosen).every(function (name) {
        return !chosen[name].length || chosen[name].indexOf(card.dataset[name]) !== -1;
      });
    }

    function state() {
      return {
        words: form.elements.q.value.trim(),
        sort: form.elements.sort.value,
        order: order.getAttribute("aria-pressed") === "true" ? "reversed" : "",
        tissue: checked("tissue"),
        grade: checked("grade"),
        only: checked("only")
      };
    }

    function show() {
      var view = state();
      var words = wordsOf(view.words);
      var chosen = { tissue: view.tissue, grade: view.grade, only: view.only };
      var sign = view.order ? 1 : -1;
      var key = view.sort.replace(/-(\w)/, function (_, letter) { return letter.toUpperCase(); });
      if (view.sort === "index") { sign = -sign; } // counted upwards
      if (view.sort === DEFAULT_SORT && !view.order) {
        cards.sort(function (a, b) { return a.rank - b.rank; }); // responsible ones first
      } else {
        cards.sort(function (a, b) { return sign * (a.dataset[key] - b.dataset[key]) || a.rank - b.rank; });
      }
      var fitting = 0;
      var sorted = document.createDocumentFragment();
      cards.forEach(function (card) {
        var fit = fits(card, words, chosen);
        fitting += fit ? 1 : 0;
        card.hidden = !fit || fitting > limit;
        sorted.appendChild(card);
      });
      list.appendChild(sorted);
      var left = Math.max(0, fitting - limit);
      more.hidden = !left;
      more.querySelector("#atlas-more").textContent = "Show " + Math.min(STEP, left) + " more";
      more.querySelector("#atlas-all").textContent = "Show all " + fitting;
      count.textContent = fitting + " of " + cards.length + " codewords" +
        (left ? ", the first " + limit + " shown" : fitting ? "" : ": none fits, remove a word or a tick");
      return view;
    }

    function remember(view) {
      var address = new URLSearchParams();
      ["words", "sort", "order", "tissue", "grade", "only"].forEach(function (name) {
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

    function press(reversed) {
      order.setAttribute("aria-pressed", String(reversed));
    }

    function restore() {
      var address = new URLSearchParams(location.search);
      form.elements.q.value = address.get("words") || ""; // not q: the script of the site's search takes that for its own, on every page
      form.elements.sort.value = address.get("sort") || DEFAULT_SORT;
      if (form.elements.sort.selectedIndex < 0) { form.elements.sort.value = DEFAULT_SORT; }
      press(address.get("order") === "reversed");
      ["tissue", "grade", "only"].forEach(function (name) {
        var values = (address.get(name) || "").split(",");
        form.querySelectorAll('input[name="' + name + '"]').forEach(function (box) { box.checked = values.indexOf(box.value) !== -1; });
      });
    }

    function update() {
      limit = STEP;
      remember(show());
    }

    // The first of the cards that came is where a reader at the keyboard goes on.
    function extend(to) {
      var first = limit;
      limit = to;
      show();
      var came = list.querySelectorAll(".atlas-card:not([hidden])")[first];
      if (came) { came.querySelector("a").focus(); }
    }

    // A link to a card that the view leaves out shows all cards.
    function follow() {
      var asked = /^#codeword-(\d+)$/.exec(location.hash);
      var target = asked && document.getElementById("codeword-" + asked[1].padStart(3, "0"));
      if (!target || !list.contains(target)) { return; }
      if (target.hidden) {
        clear();
        limit = cards.length;
        remember(show());
      }
      target.scrollIntoView();
    }

    function clear() {
      form.elements.q.value = "";
      form.elements.sort.value = DEFAULT_SORT;
      form.querySelectorAll('input[type="checkbox"]').forEach(function (box) { box.checked = false; });
      press(false);
    }

    form.addEventListener("submit", function (event) { event.preventDefault(); update(); });
    form.addEventListener("change", update);
    form.addEventListener("input", function (event) {
      if (event.target.name !== "q") { return; }
      clearTimeout(waiting);
      waiting = setTimeout(update, 120);
    });
    form.addEventListener("reset", function (event) {
      event.preventDefault(); // the browser would bring back what the page was restored with
      clear();
      update();
    });
    more.querySelector("#atlas-more").addEventListener("click", function () { extend(limit + STEP); });
    more.querySelector("#atlas-all").addEventListener("click", function () { extend(cards.length); });
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
