// Where the vendored widget manager finds its icon fonts; loaded between require.js and embed-amd.js.
(function () {
  const vendor = new URL("vendor/html-manager", document.currentScript.src).href;
  require.config({ paths: { "@jupyter-widgets/html-manager/dist": vendor, "@jupyter-widgets": vendor } });
})();
