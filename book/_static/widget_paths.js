// Loaded between require.js and embed-amd.js, on pages with widgets.
(function () {
  // Where the vendored widget manager finds its icon fonts.
  const vendor = new URL("vendor/html-manager", document.currentScript.src).href;
  const anywidget = new URL("vendor/anywidget/index", document.currentScript.src).href; // without it the manager asks a CDN
  require.config({ paths: { "@jupyter-widgets/html-manager/dist": vendor, "@jupyter-widgets": vendor, anywidget } });

  // The widget manager asks for formulas in the words of MathJax 2; the book has MathJax 3.
  const queue = (task) => window.MathJax.startup?.promise?.then(() => window.MathJax.typesetPromise([task[2]]));
  const install = () => {
    window.MathJax = window.MathJax || {};
    window.MathJax.Hub = window.MathJax.Hub || { Queue: queue };
  };
  document.addEventListener("DOMContentLoaded", install);
  window.addEventListener("load", install);
})();
