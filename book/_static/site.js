/* What every page of the book does beyond its links: boxes that scroll can be reached by keyboard, and "Cite" opens a dialogue. */
(function () {
  "use strict";

  // A box is a place to stop at for the keyboard only while something in it is out of sight.
  function watchScrolling() {
    var boxes = document.querySelectorAll("[data-scrolls], .bd-article div.highlight pre, .bd-article .output");
    function look(box) {
      var scrolls = box.scrollWidth > box.clientWidth + 1;
      box.classList.toggle("dr-scrolls", scrolls);
      if (scrolls) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", (box.dataset.scrolls || "code or output") + ", scrolls sideways");
      } else if (box.hasAttribute("tabindex")) {
        box.removeAttribute("tabindex");
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
      }
    }
    var watcher = new ResizeObserver(function (entries) { entries.forEach(function (entry) { look(entry.target); }); });
    boxes.forEach(function (box) {
      watcher.observe(box);
      box.addEventListener("scroll", function () { box.classList.add("dr-moved"); }, { once: true, passive: true });
    });
  }

  function readyCite() {
    document.querySelectorAll("[data-opens]").forEach(function (link) {
      var dialog = document.getElementById(link.dataset.opens);
      if (!dialog || !dialog.showModal) { return; }  // the link leads to the page
      link.setAttribute("role", "button");
      link.setAttribute("aria-haspopup", "dialog");
      function open(event) { event.preventDefault(); dialog.showModal(); }
      link.addEventListener("click", open);
      link.addEventListener("keydown", function (event) { if (event.key === " ") { open(event); } });
      dialog.querySelectorAll("[data-copies]").forEach(function (button) {
        button.addEventListener("click", function () { copy(dialog, dialog.querySelectorAll("pre")[Number(button.dataset.copies)]); });
      });
    });
  }

  // From a file the clipboard may be closed to scripts: then the words are selected, and the reader copies them.
  function copy(dialog, source) {
    var said = dialog.querySelector("[role=status]");
    function select() {
      getSelection().selectAllChildren(source);
      said.textContent = "Selected: copy with Ctrl+C or ⌘C.";
    }
    if (!navigator.clipboard) { select(); return; }
    navigator.clipboard.writeText(source.textContent).then(function () { said.textContent = "Copied."; }, select);
  }

  // The handle of a widget's slider has no name of its own; the words beside it are its name.
  function nameSliders() {
    document.querySelectorAll(".noUi-handle:not([aria-label])").forEach(function (handle) {
      var widget = handle.closest(".jupyter-widgets");
      var label = widget && widget.querySelector(".widget-label");
      handle.setAttribute("aria-label", (label && label.textContent.trim()) || "position");
    });
  }

  document.addEventListener("DOMContentLoaded", function () {
    watchScrolling();
    readyCite();
    if (document.querySelector("script[type^='application/vnd.jupyter.widget']")) {
      nameSliders();
      new MutationObserver(nameSliders).observe(document.body, { childList: true, subtree: true });
    }
  });
})();
